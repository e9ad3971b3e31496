"""Converts trees with kvot batch: what becomes of each file, what is left alone, what fails, and that it is all counted.

Usage: python batch.py KVOT_BINARY DATA_DIR

DATA_DIR holds small cache files that llama.cpp wrote. Every output is compared with that of the single command."""

import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time

import batch_tree
from bad_input import DONE, FAILED, SANITIZED, USAGE, Group, Limit, gguf
from batch_tree import JOURNALS, SUMMARY, Single, batch, differences, make_tree, read_tree, scratch, size_of, spread
from sequence import Sequence

SETTINGS = ((), ("--codec", "lossless"), ("--bits", "2", "--group", "128"), ("--bits", "3", "--outliers", "5"))
VANISHING_RUNS = 6 if SANITIZED else 25


def converted(group, ran, what, sources, outputs, **counts):
    """A run that did all of these files, and says so."""
    expected = {"files": len(sources), "done": len(sources)} | counts
    group.check(ran.code == DONE and ran.counts() == expected, f"{what}: {ran}, not {expected}")
    group.check(ran.said.keys() == SUMMARY, f"{what}: says {sorted(ran.said)}")
    told = [ran.said.get(name) for name in ("shard", "bytes_in", "bytes_out", "failures")]
    group.check(told == [None, size_of(sources), size_of(outputs), []], f"{what}: {told}")
    if size_of(outputs):
        ratio = size_of(sources) / size_of(outputs)
        group.check(abs(ran.said.get("ratio", 0) - ratio) < 1e-6 * ratio, f"{what}: ratio {ran.said.get('ratio')}")
    else:
        group.check(ran.said.get("ratio") is None, f"{what}: ratio {ran.said.get('ratio')}")


def same(group, path, expected, what):
    return group.check(not differences(read_tree(path), expected), f"{what}: {differences(read_tree(path), expected)}")


def mirrored(samples):
    with Group("mirrored trees") as group:
        files = spread(samples)
        for options in SETTINGS:
            with scratch() as place:
                what = " ".join(options) or "defaults"
                tree, small, back, again = (os.path.join(place, name) for name in ("tree", "small", "back", "again"))
                make_tree(tree, files)
                before, kvots = batch_tree.marks(tree), Single.compressed(files, *options)
                converted(group, batch("compress", *options, tree, "-o", small), f"compress, {what}", files, kvots)
                same(group, small, kvots, f"compress, {what}")
                group.check(batch_tree.marks(tree) == before, f"{what}: sources are touched")
                for against in ((), ("--against", tree)):
                    ran = batch("verify", small, *against)
                    converted(group, ran, f"verify, {what} {against}", kvots, {})
                    group.check(ran.said.get("journal", 0) is None, f"verify has a journal: {ran.said.get('journal')}")
                restored = Single.restored(kvots)
                converted(group, batch("restore", small, "-o", back), f"restore, {what}", kvots, restored)
                same(group, back, restored, f"restore, {what}")
                group.check("lossless" not in options or restored == files, "lossless is not what comes back")
                smaller = Single.recompressed(kvots, "--bits", "8")
                ran = batch("recompress", "--bits", "8", small, "-o", again)
                converted(group, ran, f"recompress, {what}", kvots, smaller)
                same(group, again, smaller, f"recompress, {what}")
                same(group, small, kvots, "recompress leaves its sources")
                journal = os.path.join(small, JOURNALS, "compress-1-of-1.journal")
                group.check(os.path.isfile(journal), f"no {journal}")
                group.check(os.listdir(back) and not batch_tree.leftovers(place), "temporary files are left")


def in_place(samples):
    with Group("in place") as group, scratch() as place:
        files = spread(samples)
        tree = os.path.join(place, "tree")
        for options in SETTINGS[:3]:
            shutil.rmtree(tree, ignore_errors=True)
            make_tree(tree, files)
            kvots, what = Single.compressed(files, *options), " ".join(options) or "defaults"
            converted(group, batch("compress", "--in-place", *options, tree), f"compress, {what}", files, kvots)
            same(group, tree, kvots, f"compress, {what}")
            group.check(os.path.isfile(os.path.join(tree, JOURNALS, "compress-1-of-1.journal")), "no journal")
            before = batch_tree.marks(tree)
            ran = batch("recompress", "--in-place", *options, tree)
            group.check(ran.code == DONE and ran.said["already"] + ran.said["done"] == len(files), f"same again: {ran}")
            same(group, tree, kvots, f"recompressed with the same options, {what}")
            if ran.said["already"] == len(files):
                group.check(batch_tree.marks(tree) == before, f"{what}: what is so already was written")
            else:
                group.check(False, f"{what}: {ran} where all is so already")
            again = Single.recompressed(kvots, "--bits", "8")
            ran = batch("recompress", "--in-place", "-f", "--bits", "8", tree)
            group.check(ran.code == DONE and ran.said["already"] + ran.said["done"] == len(files), f"recompress: {ran}")
            same(group, tree, again, f"recompress, {what}")
            back = Single.restored(again)
            converted(group, batch("restore", "--in-place", tree), f"restore, {what}", again, back)
            same(group, tree, back, f"restore, {what}")
            group.check(not batch_tree.leftovers(tree), "temporary files are left")


def options_hold(samples):
    with Group("options of the single commands") as group, scratch() as place:
        tree, model = os.path.join(place, "tree"), os.path.join(place, "model.gguf")
        files = {name: samples[name] for name in ("llama-v3-seq.bin", "llama-v4-seq.bin", "llama-v11-ses.bin")}
        make_tree(tree, files)
        pathlib.Path(model).write_bytes(gguf())
        for i, options in enumerate((("--model", model), ("--group", "32"), ("--outliers", "0"), ("--device", "cpu"))):
            ran = batch("compress", *options, tree, "-o", os.path.join(place, str(i)))
            kvots = Single.compressed(files, *options)
            group.check(ran.code == DONE and ran.said["done"] == 3, f"{options}: {ran}")
            same(group, os.path.join(place, str(i)), kvots, f"{options}")
        pathlib.Path(model).write_bytes(gguf(heads=4))
        refused = {name for name, data in files.items() if Single.ask("compress", data, "--model", model, "--bits", "4") is None}
        ran = batch("compress", "--model", model, "--bits", "4", tree, "-o", os.path.join(place, "other"))
        failed = {os.path.basename(name) for name in ran.failures()}
        group.check(failed == refused and ran.code == int(bool(refused)), f"another model: {ran}, not {refused}")
        for line in (("compress", tree), ("compress", tree, "-o", place + "/o", "--in-place"), ("verify", tree, "-o", place + "/o"),
                     ("verify", "--in-place", tree), ("restore", tree), ("compress", "--bits", "5", "--in-place", tree),
                     ("compress", "--in-place"), ("restore", "--bits", "4", "--in-place", tree), ("status",),
                     ("compress", "--against", tree, "--in-place", tree), ("convert", tree), ("verify", "--codec", "ott", tree),
                     ("compress", "--shard", "0/4", "--in-place", tree), ("compress", "--shard", "5/4", "--in-place", tree),
                     ("compress", "--shard", "1", "--in-place", tree), ("compress", "--shard", "1/2x", "--in-place", tree),
                     ("compress", "--memory", "x", "--in-place", tree), ("compress", "--memory", "1Q", "--in-place", tree),
                     ("compress", "--memory", "99999999999G", "--in-place", tree)):
            ran = batch(*line)
            group.check(ran.code == USAGE and ran.err.startswith(b"kvot") and ran.out == b"", f"{line}: {ran}")
        same(group, tree, files, "wrong usage changes a tree")
        ran = batch("compress", "--device", "cuda:77", "--in-place", tree)
        group.check(ran.code == 4, f"a device that is not there: {ran}")
        same(group, tree, files, "a device that is not there")


STRANGE = ("with space", "new\nline", "tab\there", "-o", "--in-place", "%41%", "back\\slash", "*", "[a-z]?", "quote\"'", "ümläut",
           os.fsdecode(b"\xff\xfe not UTF-8 \x80"), os.fsdecode(b"\xc3"), "\x7f\x01", "a" * 250, "b" * 245, ".hidden", "~", "#")


def names(samples):
    with Group("names") as group, scratch() as place:
        contents = list(samples.values())
        files = {name: contents[i] for i, name in enumerate(STRANGE)}
        files |= {f"in {name[:200]}/{name}": contents[i + 30] for i, name in enumerate(STRANGE)}
        files |= {"/".join(["deep" * 50] * 12) + "/file": contents[70]}  # 2400 bytes of path
        kvots = Single.compressed(files)
        tree, out = os.path.join(place, "tree"), os.path.join(place, "out")
        make_tree(tree, files)
        make_tree(tree, {"c" * 251: contents[0]})  # NAME.kvot would be too long a name
        ran = batch("compress", tree, "-o", out)
        n = len(files)
        group.check(ran.code == FAILED and ran.counts() == {"files": n + 1, "done": n, "failed": 1}, f"compress: {ran}")
        group.check(same(group, out, kvots, "compress") and ran.said["failures"][0]["file"].endswith("c" * 251), f"{ran}")
        ran = batch("compress", tree, "-o", out)
        group.check(ran.counts() == {"files": n + 1, "done_before": n, "failed": 1}, f"again: {ran}")
        os.unlink(os.path.join(tree, "c" * 251))
        ran = batch("compress", "--in-place", tree)
        group.check(ran.code == DONE and ran.counts() == {"files": n, "done": n}, f"in place: {ran}")
        same(group, tree, kvots, "in place")
        ran = batch("restore", "--in-place", tree)
        group.check(ran.code == DONE and ran.counts() == {"files": n, "done": n}, f"and back: {ran}")
        same(group, tree, Single.restored(kvots), "and back")
        # Failures of such names: valid JSON, and one line each for people.
        shutil.rmtree(tree)
        make_tree(tree, {name: contents[0][:1000] for name in STRANGE})
        ran = batch("verify", "--against", tree, tree)
        group.check(ran.counts() == {"unknown": len(STRANGE)} or ran.counts() == {"files": len(STRANGE), "unknown": len(STRANGE)},
                    f"no .kvot files: {ran}")
        ran = batch("compress", tree, "-o", out, "--journal", os.path.join(place, "journal"))
        group.check(len(ran.said.get("failures", ())) == len(STRANGE) and ran.code == FAILED, f"damaged: {ran}")
        group.check(not any(byte < 32 and byte != 10 for byte in ran.err), f"control characters are printed: {ran.err}")
        lines = ran.err.count(b"\n")
        group.check(lines <= len(STRANGE) + 2, f"{lines} lines of failures")


def paths(samples):
    with Group("files, globs and lists") as group, scratch() as place:
        contents = list(samples.values())
        files = {f"t/{name}": contents[i] for i, name in enumerate(("one.bin", "two.bin", "sub/three.bin", "sub/new\nline.bin", "*"))}
        kvots = Single.compressed(files)

        def converts(what, chosen, *arguments, expected=None, code=DONE, **options):
            shutil.rmtree(os.path.join(place, "out"), ignore_errors=True)
            ran = batch("compress", *arguments, "-o", "out", cwd=place, **options)
            expected = {name + ".kvot": kvots[name + ".kvot"] for name in chosen} if expected is None else expected
            group.check(ran.code == code and ran.said.get("done") == len(expected), f"{what}: {ran}")
            same(group, os.path.join(place, "out"), expected, what)
            return ran

        make_tree(place, files)
        below = {name.removeprefix("t/"): data for name, data in kvots.items()}
        converts("a tree", (), "t", expected=below)
        converts("a tree with a slash", (), "t/", expected=below)
        converts("a tree by its whole path", (), os.path.join(place, "t"), expected=below)
        converts("a tree by a path with ..", (), "t/sub/..", expected=below)
        converts("a tree below", (), "t/sub", expected={os.path.basename(name): kvots[name] for name in kvots if "/sub/" in name})
        converts("a file", ["t/one.bin"], "t/one.bin")
        converts("a file with ./", ["t/one.bin"], "./t/./one.bin")
        converts("two files", ["t/one.bin", "t/sub/three.bin"], "t/one.bin", "t/sub/three.bin")
        whole = os.path.join(place, "t/one.bin")
        converts("a file by its whole path", (), whole, expected={whole[1:] + ".kvot": kvots["t/one.bin.kvot"]})
        converts("a pattern", ["t/one.bin", "t/two.bin"], "t/*.bin")
        converts("a pattern over directories", ["t/sub/three.bin", "t/sub/new\nline.bin"], "t/*/*.bin")
        converts("a name that could be a pattern", ["t/*"], "t/*")
        converts("a pattern of directories", (), "[t]", expected=below)
        pathlib.Path(place, "list").write_text("t/one.bin\nt/sub/three.bin\n")
        converts("a list", ["t/one.bin", "t/sub/three.bin"], "--list", "list")
        converts("a list and more", ["t/one.bin", "t/two.bin", "t/sub/three.bin"], "--list", "list", "t/two.bin")
        converts("a list from a pipe", ["t/one.bin"], "--list", "-", data=b"t/one.bin\n")
        converts("a list whose last line has no end", ["t/one.bin", "t/two.bin"], "--list", "-", data=b"t/one.bin\nt/two.bin")
        converts("names that end in NUL", ["t/sub/new\nline.bin", "t/*"], "-0", "--list", "-", data=b"t/sub/new\nline.bin\0t/*\0")
        converts("--null", ["t/one.bin"], "--null", "--list", "-", data=b"t/one.bin")
        converts("a directory in a list", (), "--list", "-", data=b"t\n", expected=below)
        converts("an empty list", [], "--list", "-", data=b"")
        ran = converts("missing names in a list", ["t/one.bin"], "--list", "-", data=b"t/gone\nt/one.bin\n", code=FAILED)
        group.check(list(ran.failures()) == ["t/gone"], f"a missing name: {ran}")
        ran = converts("a missing name", ["t/one.bin"], "t/gone", "t/one.bin", code=FAILED)
        group.check(list(ran.failures()) == ["t/gone"], f"a missing name: {ran}")
        # In place, and again when the sources have gone. The journal is where the command was given.
        for what, arguments in (("names", ("a", "b")), ("a name, twice", ("a", "a", "./a")), ("a tree and a part of it", (".", "sub"))):
            copy = os.path.join(place, "in place", what)
            sources = {"a": contents[0], "sub/b": contents[1]} if "sub" in arguments else {"a": contents[0]}
            make_tree(copy, sources | ({"b": contents[2]} if "b" in arguments else {}))
            n = len(read_tree(copy))
            expected = Single.compressed(read_tree(copy))
            for turn in ("done", "done_before"):
                ran = batch("compress", "--in-place", *arguments, cwd=copy)
                group.check(ran.code == DONE and ran.said["failed"] == 0, f"in place, {what}: {ran}")
                group.check(ran.said["done"] == (n if turn == "done" else 0), f"in place, {what}, {turn}: {ran}")
                same(group, copy, expected, f"in place, {what}, {turn}")
            group.check(os.path.isfile(os.path.join(copy, JOURNALS, "compress-1-of-1.journal")), f"in place, {what}: no journal")
        # Nothing gets out of DIR.
        os.makedirs(os.path.join(place, "x/y"))
        shutil.rmtree(os.path.join(place, "out"))
        for path in ("../../t/one.bin", "../../t/../t/one.bin", "../y/../../t/one.bin"):
            ran = batch("compress", path, "-o", "out", cwd=os.path.join(place, "x/y"))
            everything = set(read_tree(place))
            written = {name for name in everything if name.endswith(".kvot") and not name.startswith("in place/")}
            good = all(name.startswith("x/y/out/") for name in written) and len(written) == (ran.code == DONE)
            group.check(good and everything >= files.keys(), f"{path}: {ran}, {written}")
            shutil.rmtree(os.path.join(place, "x/y/out"), ignore_errors=True)


def collisions(samples):
    with Group("two sources for one output") as group, scratch() as place:
        first, second = samples["llama-v3-seq.bin"], samples["slot-lfm2.bin"]
        make_tree(place, {"a/x/file": first, "a/one": first, "b/x/file": second, "b/two": second})
        ran = batch("compress", "a", "b", "-o", "out", cwd=place)
        group.check(ran.code == FAILED and ran.counts() == {"files": 4, "done": 3, "failed": 1}, f"two trees: {ran}")
        group.check(list(ran.failures()) == ["b/x/file"], f"the second one: {ran}")
        kvots = Single.compressed({"x/file": first, "one": first, "two": second})
        same(group, os.path.join(place, "out"), kvots, "two trees")
        ran = batch("compress", "a", "b", "-o", "out", cwd=place)
        group.check(ran.counts() == {"files": 4, "done_before": 3, "failed": 1}, f"again: {ran}")
        same(group, os.path.join(place, "out"), kvots, "again")
        ran = batch("compress", "-f", "a", "b", "-o", "out", cwd=place)
        group.check(ran.code == FAILED and ran.said["failed"] == 1, f"with -f: {ran}")
        same(group, os.path.join(place, "out"), kvots, "with -f")


def there_already(samples):
    with Group("outputs that are there") as group, scratch() as place:
        files = spread(dict(list(samples.items())[:12]))
        kvots = Single.compressed(files)
        tree, out = os.path.join(place, "tree"), os.path.join(place, "out")
        taken = sorted(files)[:3]
        for where, how in ((out, ["-o", out]), (tree, ["--in-place"])):
            make_tree(tree, files)
            make_tree(where, {name + ".kvot": b"mine" for name in taken})
            ran = batch("compress", tree, *how)
            group.check(ran.code == FAILED and ran.said["done"] == 9 and ran.said["failed"] == 3, f"{how}: {ran}")
            group.check(set(ran.failures().values()) == {"KVOT_E_EXISTS"}, f"{how}: {ran.failures()}")
            expected = kvots | {name + ".kvot": b"mine" for name in taken}
            same(group, where, expected | ({} if where == out else {name: files[name] for name in taken}), f"{how}")
            ran = batch("compress", tree, *how)
            group.check(ran.code == FAILED and ran.said["done"] == 0 and ran.said["failed"] == 3, f"{how}, again: {ran}")
            group.check(pathlib.Path(where, taken[0] + ".kvot").read_bytes() == b"mine", f"{how}: replaced without -f")
            ran = batch("compress", "-f", tree, *how)
            group.check(ran.code == DONE and ran.said["failed"] == 0, f"{how}, -f: {ran}")
            same(group, where, kvots, f"{how}, -f")
            shutil.rmtree(where)
            shutil.rmtree(tree, ignore_errors=True)
        make_tree(tree, kvots | {taken[0]: b"mine"})
        ran = batch("restore", "--in-place", tree)
        group.check(ran.code == FAILED and ran.counts() == {"files": 12, "done": 11, "unknown": 1, "failed": 1}, f"restore: {ran}")
        left = {taken[0]: b"mine", taken[0] + ".kvot": kvots[taken[0] + ".kvot"]}
        restored = Single.restored(kvots)
        same(group, tree, {name: restored[name] for name in restored if name != taken[0]} | left, "restore")
        shutil.rmtree(tree)
        # A journal that was of another output directory says nothing of what is in this one.
        make_tree(tree, {taken[0]: files[taken[0]]})
        make_tree(out + "2", {taken[0] + ".kvot": b"mine"})
        for where, code in ((out + "1", DONE), (out + "2", FAILED)):
            ran = batch("compress", tree, "-o", where, "--journal", os.path.join(place, "journal"))
            group.check(ran.code == code, f"one journal for two output directories, {where}: {ran}")
        group.check(read_tree(out + "2") == {taken[0] + ".kvot": b"mine"}, "one journal for two output directories")
        shutil.rmtree(tree)
        make_tree(out, {"one/file": b"", "two": b"a file"})
        make_tree(tree, {"one": samples["llama-v3-seq.bin"], "two/in": samples["llama-v3-seq.bin"]})
        os.mkdir(os.path.join(out, "one.kvot"))
        ran = batch("compress", tree, "-f", "-o", out)
        group.check(ran.code == FAILED and ran.counts() == {"files": 2, "failed": 2}, f"a directory or a file in the way: {ran}")


def not_ours(samples):
    """What is not this operation's work is not replaced, whatever an older journal says; names and outputs that mean
    something else to the library are names."""
    cache = samples["llama-v3-seq.bin"]
    kvot = Single.compressed({"x": cache})["x.kvot"]
    with Group("outputs of others") as group, scratch() as place:
        tree = os.path.join(place, "tree")
        make_tree(tree, {"x": cache})
        for turn in range(2):
            ran = batch("compress", "--in-place", tree), batch("restore", "--in-place", tree)
            group.check(all(r.code == DONE and r.said["done"] == 1 for r in ran), f"there and back, {turn}: {ran}")
        mine = pathlib.Path(tree, "x")
        batch("compress", "--in-place", tree)
        left = read_tree(tree)
        for new in (b"newer", bytes(len(cache))):  # since the journal of restore called it done
            mine.write_bytes(new)
            for _ in range(2):
                ran = batch("restore", "--in-place", tree)
                group.check(ran.code == FAILED and set(ran.failures().values()) == {"KVOT_E_EXISTS"}, f"restore: {ran}")
            group.check(read_tree(tree) == left | {"x": new}, "a newer file was replaced")
        mine.write_bytes(cache)
        os.unlink(mine.with_suffix(".kvot"))
        os.mkfifo(mine.with_suffix(".kvot"))
        for force in ([], ["-f"]):
            ran = batch("compress", "--in-place", *force, tree)
            group.check(ran.code == FAILED and ran.counts() == {"files": 1, "failed": 1, "special": 1}, f"a FIFO, {force}: {ran}")
        group.check(read_tree(tree) == {"x": cache, "x.kvot": None}, "a FIFO is in the way")
        make_tree(place, {"-": cache})
        ran = batch("compress", "--in-place", "--", "-", cwd=place)
        group.check(ran.code == DONE and pathlib.Path(place, "-.kvot").read_bytes() == kvot, f"a file named -: {ran}")
        ran = batch("restore", "--in-place", "--", "-.kvot", cwd=place)
        group.check(ran.code == DONE and pathlib.Path(place, "-").is_file(), f"a file named -.kvot: {ran}")


def left_alone(samples):
    with Group("what is left alone") as group, scratch() as place:
        files = spread(dict(list(samples.items())[:20]))
        kvots = Single.compressed(files)
        tree = os.path.join(place, "tree")
        make_tree(tree, files)
        others = {"text": b"hello\n", "a/some.png": b"\x89PNG\r\n\x1a\n" + bytes(100), "weights": gguf(), "zeros": bytes(5000)}
        ends_so = {"d/x.kvot": Single.ask("compress", samples["llama-v3-seq.bin"]), "y.kvot": b"whatever"}
        hidden = {".text.kvot-abc345": b"x", "a/.llama.kvot-aaaaaa": samples["llama-v3-seq.bin"], f"a/{JOURNALS}/z": samples["llama-v3-seq.bin"]}
        make_tree(tree, others | ends_so | hidden)
        os.symlink("/", os.path.join(tree, "root"))
        os.symlink(".", os.path.join(tree, "a/self"))
        os.symlink(os.path.join(tree, sorted(files)[0]), os.path.join(tree, "to a file"))
        os.symlink("nowhere", os.path.join(tree, "broken"))
        os.mkfifo(os.path.join(tree, "fifo"))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.path.join(tree, "socket"))
        out = os.path.join(tree, "a/out")
        for turn in ("done", "done_before"):
            ran = batch("compress", tree, "-o", out)
            good = ran.code == DONE and ran.said[turn] == 20 and ran.said["failed"] == 0 and ran.said["vanished"] == 0
            group.check(good and ran.said["unknown"] == 6 and ran.said["links"] == 4 and ran.said["special"] == 2, f"{turn}: {ran}")
            same(group, out, kvots, f"{turn}, the output inside of the tree")
        shutil.rmtree(out)
        before = batch_tree.marks(tree)
        ran = batch("compress", "--in-place", tree)
        group.check(ran.code == DONE and ran.said["done"] == 20 and ran.said["unknown"] == 6, f"in place: {ran}")
        after = batch_tree.marks(tree)
        # Temporary files that no process has locked are removed where outputs go.
        touched = {name for name in before if before[name] != after.get(name)}
        swept = {name for name in hidden if batch_tree.is_temporary(os.path.basename(name)) and name not in after}
        group.check(touched - swept == files.keys(), f"others are touched: {sorted(touched - swept - files.keys())}")
        group.check(after.keys() - before.keys() == kvots.keys(), "others are made")
        group.check(os.path.exists(os.path.join(tree, f"a/{JOURNALS}/z")), "a journal directory is touched")
        ran = batch("verify", tree)
        good = ran.said["done"] == 21 and ran.said["failed"] == 1 and ran.said["unknown"] == 4 and ran.code == FAILED
        group.check(good and list(ran.failures()) == [os.path.join(tree, "y.kvot")], f"verify: {ran}")
        group.check(set(ran.failures().values()) <= {"KVOT_E_UNKNOWN", "KVOT_E_DAMAGED"}, f"{ran.failures()}")
        ran = batch("compress", os.path.join(tree, "fifo"), "-o", os.path.join(place, "o"), timeout=20)
        group.check(ran.code in (DONE, FAILED) and ran.said.get("special") == 1, f"a FIFO by its name: {ran}")
        ran = batch("compress", "/dev/null", "-o", os.path.join(place, "o"), timeout=20)
        group.check(ran.code in (DONE, FAILED) and ran.said.get("special") == 1, f"a device by its name: {ran}")


def links(samples):
    with Group("symbolic links that are followed") as group, scratch() as place:
        files = {"x/one": samples["llama-v3-seq.bin"], "x/two": samples["slot-lfm2.bin"]}
        tree, out, other = (os.path.join(place, name) for name in ("tree", "out", "other"))
        make_tree(tree, files)
        make_tree(other, {"far/three": samples["llama-v4-seq.bin"]})
        os.symlink(os.path.join(other, "far"), os.path.join(tree, "far"))
        os.symlink(os.path.join(other, "far/three"), os.path.join(tree, "x/four"))
        os.symlink("x", os.path.join(tree, "again"))
        os.symlink("..", os.path.join(tree, "x/loop"))
        os.symlink("self", os.path.join(tree, "self"))
        os.symlink("nowhere", os.path.join(tree, "broken"))
        ran = batch("compress", tree, "-o", out)
        group.check(ran.code == DONE and ran.counts() == {"files": 2, "done": 2, "links": 6}, f"not asked to: {ran}")
        same(group, out, Single.compressed(files), "not asked to")
        shutil.rmtree(out)
        ran = batch("compress", "--follow-links", tree, "-o", out, timeout=60)
        group.check(ran.code == DONE and ran.said.get("done") == 7, f"followed: {ran}")
        expected = files | {"far/three": samples["llama-v4-seq.bin"], "x/four": samples["llama-v4-seq.bin"]}
        expected |= {name.replace("x/", "again/"): data for name, data in expected.items() if name.startswith("x/")}
        same(group, out, Single.compressed(expected), "followed")
        # In place a directory is looked at once, however it is come by.
        shutil.rmtree(os.path.join(tree, "x/loop"), ignore_errors=True)
        ran = batch("compress", "--in-place", "--follow-links", tree, timeout=60)
        group.check(ran.code == DONE and ran.said.get("failed") == 0, f"followed, in place: {ran}")
        found = {name: data for name, data in read_tree(tree).items() if data is not None}
        kvots = Single.compressed(files | {"x/four": samples["llama-v4-seq.bin"]})
        good = all(found.get(name) == data for name, data in kvots.items() if name != "x/four.kvot")
        group.check(good, f"followed, in place: {sorted(found)}")
        three = Single.ask("compress", samples["llama-v4-seq.bin"])
        group.check(read_tree(other) == {"far/three.kvot": three}, f"followed, in place: {sorted(read_tree(other))}")


def damaged(samples):
    """Each failure counts, has its status, and stops nothing else."""
    with Group("damaged and unreadable files") as group, scratch() as place:
        os.chmod(place, 0o755)
        tree, out = os.path.join(place, "tree"), os.path.join(place, "out")
        files = spread(dict(list(samples.items())[:30]))
        kvots = Single.compressed(files)
        broken = {f"b/cut at {n}": samples["llama-v3-seq.bin"][:n] for n in (100, 1000, 3000)}
        make_tree(tree, files | broken)
        os.makedirs(os.path.join(tree, "locked"))
        make_tree(tree, {"locked/in": samples["llama-v3-seq.bin"], "secret": samples["llama-v3-seq.bin"]})
        os.chmod(os.path.join(tree, "locked"), 0)
        os.chmod(os.path.join(tree, "secret"), 0)
        os.mkdir(out)
        as_nobody = batch_tree.restricted()
        if as_nobody is None:
            return group.skip("nothing is locked to this user")
        os.chown(out, as_nobody.get("user", -1), -1)
        ran = batch("compress", tree, "-o", out, **as_nobody)
        expected = {os.path.join(tree, name): "KVOT_E_DAMAGED" for name in broken}
        expected |= {os.path.join(tree, name): "KVOT_E_IO" for name in ("locked", "secret")}
        group.check(ran.code == FAILED and ran.failures() == expected, f"compress: {ran}, not {expected}")
        group.check(ran.said.get("done") == 30 and ran.said.get("failed") == 5, f"compress: {ran}")
        group.check(all(failure["reason"] for failure in ran.said.get("failures", ())), "a failure has no reason")
        same(group, out, kvots, "compress")
        for name in ("locked", "secret"):
            os.chmod(os.path.join(tree, name), 0o755)
        make_tree(tree, {name: samples["llama-v3-seq.bin"] for name in broken})
        ran = batch("compress", tree, "-o", out)
        group.check(ran.code == DONE and ran.counts() == {"files": 35, "done": 5, "done_before": 30}, f"mended: {ran}")
        # A .kvot file with one byte changed, among others, in every operation that reads them.
        victims = sorted(kvots)[3:6]
        shutil.rmtree(tree)
        make_tree(tree, kvots)
        for name in victims:
            data = bytearray(kvots[name])
            data[70] ^= 1
            pathlib.Path(tree, name).write_bytes(data)
        for line in (("verify",), ("restore", "-o", out + "2"), ("recompress", "--bits", "8", "-o", out + "3"),
                     ("recompress", "--bits", "8", "--in-place"), ("restore", "--in-place")):
            ran = batch(*line, tree)
            group.check(ran.code == FAILED and set(ran.failures()) == {os.path.join(tree, v) for v in victims}, f"{line}: {ran}")
            group.check(set(ran.failures().values()) == {"KVOT_E_DAMAGED"}, f"{line}: {ran}")
            group.check(ran.said.get("done", 0) + ran.said.get("already", 0) == 27, f"{line}: {ran}")
        rest = Single.restored(Single.recompressed({n: k for n, k in kvots.items() if n not in victims}, "--bits", "8"))
        left = {name: data for name, data in read_tree(tree).items() if name not in victims}
        group.check(not differences(left, rest), f"the others: {differences(left, rest)}")


def against(samples):
    with Group("verify --against") as group, scratch() as place:
        tree, small = os.path.join(place, "tree"), os.path.join(place, "small")
        files = spread(dict(list(samples.items())[:10]))
        make_tree(tree, files)
        batch("compress", tree, "-o", small)
        gone, changed, other = sorted(files)[2:5]
        os.unlink(os.path.join(tree, gone))
        with open(os.path.join(tree, changed), "r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)[0]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 0x40]))
        pathlib.Path(tree, other).write_bytes(b"something else")
        ran = batch("verify", small, "--against", tree)
        expected = {os.path.join(small, name + ".kvot") for name in (gone, changed, other)}
        group.check(ran.code == FAILED and set(ran.failures()) == expected, f"{ran}")
        group.check(ran.counts() == {"files": 10, "done": 7, "failed": 3}, f"{ran}")
        ran = batch("verify", small)
        group.check(ran.code == DONE and ran.counts() == {"files": 10, "done": 10}, f"alone: {ran}")
        journal = os.path.join(place, "journal")
        for turn in ("done", "done_before"):
            ran = batch("verify", small, "--journal", journal)
            group.check(ran.code == DONE and ran.counts() == {"files": 10, turn: 10}, f"with a journal, {turn}: {ran}")


def vanishing(samples):
    """Files and directories that go while it runs: none is fatal, and the counts add up."""
    with Group("vanishing files") as group:
        vanished = 0
        for i in range(VANISHING_RUNS):
            with scratch() as place:
                tree, out = os.path.join(place, "tree"), os.path.join(place, "out")
                files = {f"{copy}/{name}": data for copy in range(3) for name, data in spread(samples).items()}
                make_tree(tree, files)
                names = sorted(files, key=lambda name: hash((i, name)))

                def remove():
                    for name in names[: len(names) // 2]:
                        os.unlink(os.path.join(tree, name))
                        time.sleep(0.0002)
                    shutil.rmtree(os.path.join(tree, "2"))

                where = ["--in-place"] if i % 2 else ["-o", out]
                process = batch_tree.start("compress", tree, *where)
                time.sleep(i * 0.004)
                # In place the command removes files as well.
                remover = threading.Thread(target=lambda: quietly(remove))
                remover.start()
                ran = batch_tree.finish(process)
                remover.join()
                n = ran.said.get("files", -1)
                group.check(ran.code == DONE and ran.said.get("failed") == 0, f"{where}: {ran}")
                group.check(n == ran.said.get("done") + ran.said.get("vanished"), f"{where}: {ran}")
                vanished += ran.said.get("vanished", 0)
                found = read_tree(out if "-o" in where else tree)
                kvots = Single.compressed(files)
                wrong = [name for name in found if name.endswith(".kvot") and found[name] != kvots[name]]
                group.check(not wrong and not batch_tree.leftovers(place), f"{where}: {wrong[:3]}, {batch_tree.leftovers(place)[:3]}")
        group.check(vanished > 0, "nothing vanished")
        group.note = f", {vanished} vanished"


def change(path, how, new):
    """Changes a file. Returns what it holds then."""
    old = pathlib.Path(path).read_bytes()
    if how == "replaced":
        pathlib.Path(path + ".new").write_bytes(new)
        os.rename(path + ".new", path)
        return new
    with open(path, "r+b") as file:
        if how == "cut":
            file.truncate(len(old) - 10)
            return old[:-10]
        file.seek(0 if how == "appended to" else -2, os.SEEK_END)
        file.write(b"ab")
    return old + b"ab" if how == "appended to" else old[:-2] + b"ab"


def changing(samples):
    """In place, a source that is written to while it is converted stays; the next run does it."""
    with Group("sources that change while they are converted") as group, scratch() as place:
        sequence = Sequence(samples["llama-v3-seq.bin"])
        sequence.widen(16)
        sequence.repeat(5000)
        old = sequence.pack()
        sequence.repeat(4999)
        new, tree = sequence.pack(), os.path.join(place, "tree")
        path, tried = os.path.join(tree, "cache"), 0
        for how in ("replaced", "appended to", "written to", "cut") * 5:
            shutil.rmtree(tree, ignore_errors=True)
            make_tree(tree, {"cache": old})
            process = batch_tree.start("compress", "--in-place", "--codec", "lossless", tree)
            while process.poll() is None and not batch_tree.leftovers(tree):
                pass
            os.kill(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            in_time = not os.path.exists(path + ".kvot")  # it looks at its source once more after that has its name
            latest = change(path, how, new) if in_time else old
            process.send_signal(signal.SIGCONT)
            ran = batch_tree.finish(process)
            if not in_time:
                continue
            tried += 1
            found = read_tree(tree)
            group.check(ran.code == FAILED and ran.said.get("failed") == 1 and ran.said.get("done") == 0, f"{how}: {ran}")
            group.check(found.get("cache") == latest, f"{how}: LOST: {sorted(found)}, {ran}")
            group.check(not batch_tree.leftovers(tree), f"{how}: temporary files are left")
            small = Single.ask("compress", latest, "--codec", "lossless")
            ran = batch("compress", "--in-place", "--codec", "lossless", tree)
            if small is not None:
                group.check(ran.code == DONE and read_tree(tree) == {"cache.kvot": small}, f"{how}, again: {ran}")
            else:
                group.check(ran.code == FAILED and read_tree(tree).get("cache") == latest, f"{how}, again: LOST: {ran}")
        group.check(tried > 0, "no change came in time")
        group.note = f", {tried} changes"


def quietly(function):
    try:
        function()
    except OSError:
        pass


def no_room(samples):
    """A disk that is full, and an output that cannot be written to: all fails, nothing is lost, and it goes on later."""
    with Group("no room, no permission") as group, scratch() as place:
        os.chmod(place, 0o755)
        tree, out = os.path.join(place, "tree"), os.path.join(place, "out")
        files = spread(samples)
        kvots = Single.compressed(files)
        make_tree(tree, files)
        large = {name for name, data in kvots.items() if len(data) > 20000}
        with Limit(resource.RLIMIT_FSIZE, 20000):
            ran = batch("compress", tree, "-o", out, "--journal", os.path.join(place, "j"))
        group.check(ran.code == FAILED and {os.path.relpath(name, tree) + ".kvot" for name in ran.failures()} >= large, f"{ran}")
        same(group, tree, files, "no room")
        found = read_tree(out)
        group.check(all(kvots[name] == data for name, data in found.items()) and not batch_tree.leftovers(place), "no room: half files")
        ran = batch("compress", tree, "-o", out, "--journal", os.path.join(place, "j"))
        group.check(ran.code == DONE and ran.said["done"] + ran.said["done_before"] == len(files), f"then there is room: {ran}")
        same(group, out, kvots, "then there is room")
        read_only = os.path.join(place, "read-only")
        os.mkdir(read_only, 0o555)
        as_nobody = batch_tree.restricted()
        places = ["/dev/null/x", os.path.join(tree, sorted(files)[0])]
        places += [read_only, os.path.join(read_only, "below")] if as_nobody is not None else []
        for what in places:
            ran = batch("compress", tree, "-o", what, **as_nobody or {})
            good = ran.code == FAILED and ran.err.startswith(b"kvot: ") and ran.said.get("done", 0) == 0
            group.check(good, f"output {what}: {ran}")
        if as_nobody:
            ran = batch("compress", "--in-place", tree, **as_nobody)
            group.check(ran.code == FAILED and ran.said.get("done", 0) == 0, f"in place, read-only: {ran}")
        same(group, tree, files, "read-only outputs")
        if full_disk(place):
            disk = os.path.join(place, "disk")
            ran = batch("compress", tree, "-o", disk)
            group.check(ran.code == FAILED and ran.said.get("done", 0) < len(files), f"a full disk: {ran}")
            found = read_tree(disk)
            group.check(all(kvots[name] == data for name, data in found.items()), "a full disk: half files")
            subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
            ran = batch("compress", tree, "-o", disk)
            group.check(ran.code == DONE, f"the disk is larger now: {ran}")
            same(group, disk, kvots, "the disk is larger now")
            subprocess.run(["umount", disk], check=True)
        else:
            group.note = ", without a full disk: nothing can be mounted here"


def full_disk(place):
    disk = os.path.join(place, "disk")
    os.mkdir(disk)
    return subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], stderr=subprocess.DEVNULL).returncode == 0


TESTS = [mirrored, in_place, options_hold, names, paths, collisions, there_already, not_ours, left_alone,
         links, damaged, against, vanishing, changing, no_room]

if __name__ == "__main__":
    batch_tree.main(__doc__, TESTS)
