"""python demo.py KVOT: see demo.sh."""
import os
import subprocess
import sys
import tempfile
import textwrap
import time

from server import Server, smollm2

TEXT = "/usr/share/common-licenses/GPL-3"  # on every Debian machine
QUESTION = "What is this license about?"
ANSWER_TOKENS = 48


def read_prompt():
    """Some 2000 tokens, up to the end of a paragraph."""
    with open(TEXT) as file:
        text = file.read()
    return "<|im_start|>user\n" + text[:text.rindex("\n\n", 0, 9000)]


class Demo:
    def __init__(self, kvot, folder):
        self.binary, self.folder = kvot, folder
        self.prompt = read_prompt()
        self.rows = []
        self.answers = []

    def kvot(self, *arguments):
        print("$ kvot", *arguments, flush=True)
        subprocess.run([self.binary, *arguments], cwd=self.folder, check=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def server(self):
        return Server(smollm2(), self.folder, context=4096)

    def ask(self, server, name):
        """Asks about the prompt. Returns how many of its tokens the server had in its cache."""
        question = f"\n\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
        reply = server.complete(self.prompt + question, ANSWER_TOKENS)
        self.answers.append((name, reply["content"]))
        return reply["timings"]["cache_n"]

    def from_prompt(self):
        print(f"A server with SmolLM2-135M reads the beginning of {TEXT} and saves its cache.", flush=True)
        with self.server() as server:
            timings = server.complete(self.prompt, 1)["timings"]
            server.save("prompt.bin")
            self.ask(server, "never compressed")
        self.tokens = timings["prompt_n"]
        self.original = os.path.getsize(self.path("prompt.bin"))
        self.rows.append(("compute the prompt", "", "", f"{timings['prompt_ms'] / 1000:.2f} s", "0"))

    def from_file(self, name, file):
        print(f"\nA new server goes on from {file}.", flush=True)
        with self.server() as server:
            start = time.monotonic()
            self.kvot("restore", file, "-o", "restored.bin")
            server.restore("restored.bin")
            took = time.monotonic() - start
            reused = self.ask(server, name)
        os.remove(self.path("restored.bin"))
        size = os.path.getsize(self.path(file))
        self.rows.append((name, f"{size / 1e6:.1f} MB", f"{self.original / size:.2f}", f"{took:.2f} s", str(reused)))

    def run(self):
        self.from_prompt()
        self.kvot("compress", "prompt.bin", "-o", "small.kvot")
        self.kvot("compress", "--codec", "lossless", "prompt.bin", "-o", "same.kvot")
        os.remove(self.path("prompt.bin"))
        print("The server is gone, and prompt.bin is deleted.")
        self.from_file("kvot, lossless", "same.kvot")
        self.from_file("kvot, 4 bits (default)", "small.kvot")

    def report(self):
        print(f"\nThe prompt has {self.tokens} tokens, its cache {self.original / 1e6:.1f} MB. "
              "Ways to have it in a new server:\n")
        for row in (("", "file", "times smaller", "time", "tokens reused"), *self.rows):
            print(f"{row[0]:<24}" + "".join(f"{cell:>15}" for cell in row[1:]))
        print("\nThe server computes on one thread; its start is not counted. The time of kvot is that of\n"
              f"kvot restore and of the server's own loading.\n\nThe server is then asked: {QUESTION}")
        first = self.answers[0][1]
        for i, (name, answer) in enumerate(self.answers):
            print(f"\n{name}{' (the same)' if i and answer == first else ''}:")
            print(textwrap.fill(" ".join(answer.split()), 90, initial_indent="  ", subsequent_indent="  "))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(os.path.abspath(sys.argv[1]), folder)
        demo.run()
        demo.report()
