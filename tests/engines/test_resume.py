"""test_resume.py KVOT MODULE: samples/resume goes on from a cache as the server that saved it does.

MODULE is samples/resume.c as a shared library. The engine is that of the package xllamacpp: its extension module has all
of llama.cpp's C API, so a Python process loads both and calls main.
"""
import ctypes
import importlib.util
import os
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "samples"))
from server import Server, smollm2  # noqa: E402

TEXT = "/usr/share/common-licenses/GPL-3"  # on every Debian machine
TOKENS = 32


def run_main(arguments):
    folder = importlib.util.find_spec("xllamacpp").submodule_search_locations[0]
    ctypes.CDLL(os.path.join(folder, "xllamacpp.abi3.so"), ctypes.RTLD_GLOBAL)
    arguments = [argument.encode() for argument in arguments]
    argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments)
    sys.exit(ctypes.CDLL(arguments[0].decode()).main(len(arguments), argv))


def check(condition, what):
    if not condition:
        raise SystemExit(what)


def resume(module, *arguments):
    return subprocess.run([sys.executable, __file__, "--main", module, *arguments], capture_output=True)


def compress(kvot, *arguments):
    result = subprocess.run([kvot, "compress", "-f", *arguments], capture_output=True, text=True)
    check(result.returncode == 0, result.stderr)


def case(kvot, module, folder, flash_attention):
    with open(TEXT) as file:
        prompt = file.read(3000)
    slot, packed = os.path.join(folder, "slot.bin"), os.path.join(folder, "slot.kvot")
    settings = {"context": 2560, "flash_attention": flash_attention}
    with Server(smollm2(), folder, **settings) as server:
        server.complete(prompt, 1)
        server.save("slot.bin")
    with Server(smollm2(), folder, **settings) as server:
        server.restore("slot.bin")
        expected = server.complete(prompt, TOKENS)["content"]
    check(expected, "the server does not go on")

    compress(kvot, slot, "-o", packed, "--codec", "lossless", "--model", smollm2())
    result = resume(module, smollm2(), packed, str(TOKENS))
    check(result.returncode == 0, result.stderr.decode())
    check(result.stdout.decode() == expected, f"resumed with {result.stdout}, but the server with {expected.encode()}")

    os.remove(packed)
    compress(kvot, slot, "-o", packed, "--model", smollm2())
    result = resume(module, smollm2(), packed, str(TOKENS))
    check(result.returncode == 0 and result.stdout, f"with the default loss: {result.stderr.decode()}")

    # Nobody but the model's own file is taken for the model.
    other = os.path.join(folder, "other.gguf")
    with open(other, "wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, 0, 0))
    result = resume(module, other, packed)
    check(result.returncode == 1 and b"another model" in result.stderr, f"another model: {result.stderr}")
    return expected


def main():
    kvot, module = sys.argv[1:]
    for flash_attention in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            print(f"flash attention {flash_attention}: {case(kvot, module, folder, flash_attention)!r}")


if sys.argv[1] == "--main":
    run_main(sys.argv[2:])
main()
