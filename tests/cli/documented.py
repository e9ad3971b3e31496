"""Looks whether man page and completions know the options that each command's help lists, and no others.

Usage: python documented.py KVOT_BINARY CLI_DIR
"""

import pathlib
import re
import subprocess
import sys


def help_of(*command):
    return subprocess.run([sys.argv[1], *command, "--help"], capture_output=True, text=True, check=True).stdout


def options_of(command):
    return set(re.findall(r"^  (?:-\w,|   ) --([\w-]+)", help_of(*command.split()), re.MULTILINE))


def bash(file, command):
    script = f'source "{file}"; COMP_WORDS=(kvot {command} --); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _kvot; echo "${{COMPREPLY[@]}}"'
    words = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    return {word.removeprefix("--") for word in words}


def zsh(file, command):
    """The lists and options that the branch of a command gives to _arguments."""
    text = file.read_text()
    lists = dict(re.findall(r"^(\w+)=\((.*)\)$", text, re.MULTILINE))
    branches = dict(re.findall(r"^\"?([\w *]+)\"?\)(.*?);;", text, re.MULTILINE | re.DOTALL))
    branch = branches.get(command, branches["*"])
    for name in re.findall(r"\$(\w+)", branch):
        branch += lists[name]
    return set(re.findall(r"--([\w-]+)[\[}]", branch))


def fish(file, command):
    found = set()
    for line in re.findall(r"^complete .*", file.read_text(), re.MULTILINE):
        option = re.search(r" -l ([\w-]+)", line)
        condition = re.search(r'-n "(?:\$(\w+); and )?__fish_seen_subcommand_from ([^"]*)"', line)
        of, names = (condition[1], condition[2].split()) if condition else (None, ["$commands"])
        batch, _, last = command.rpartition(" ")
        if option and (last in names or "$commands" in names) and of in (None, batch or "single"):
            found.add(option[1])
    return found


def main():
    folder = pathlib.Path(sys.argv[2])
    completions = folder / "completions"
    listed = {command: options_of(command) for command in re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", help_of(), re.MULTILINE)}
    wrong = 0 if listed and all(listed.values()) else 1
    for command, options in listed.items():
        for of, name in (bash, "kvot.bash"), (zsh, "_kvot"), (fish, "kvot.fish"):
            known = of(completions / name, command)
            if known != options:
                wrong += 1
                print(f"{name}, {command}: lacks {sorted(options - known)}, has too much: {sorted(known - options)}")
    page = (folder / "kvot.1").read_text().partition(".SH OPTIONS")[2].partition(".SH EXIT")[0].replace("\\-", "-")
    described = set(re.findall(r"^\.(?:BR?|BI) .*?--([\w-]+)", page, re.MULTILINE)) - {"version"}
    everything = set().union(*listed.values())
    if described != everything:
        wrong += 1
        print(f"kvot.1: lacks {sorted(everything - described)}, has too much: {sorted(described - everything)}")
    print(f"{len(everything)} options of {len(listed)} commands, {wrong} disagreements")
    return wrong > 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main())
