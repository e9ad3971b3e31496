"""Validates samples/cluster/kubernetes.yaml against the published schema of Kubernetes, and runs its command for every
index as a kubelet would, but for the container: with its environment, and directories in place of the volumes.

Usage: python kubernetes.py BUILD_DIR KVOT_BINARY DATA_DIR

The schemas come from PyPI and are kept in BUILD_DIR/kubernetes. Exits with 77 where they cannot be had."""

import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from common import SAMPLES, SHARDS, Tree, skip

PACKAGES = """kubernetes-validate==1.37.0
jsonschema==4.26.0
jsonschema-specifications==2025.9.1
referencing==0.37.0
rpds-py==2026.9.1
attrs==26.1.0
importlib-resources==7.1.0
packaging==26.4
typing-extensions==4.16.0
pyyaml==6.0.4
"""
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 0.001}


def install(directory):
    """The packages, in a directory of their own: only this test needs them."""
    ready = directory / "requirements"  # copied last
    if not ready.exists() or ready.read_text() != PACKAGES:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        wanted = directory / "wanted"
        wanted.write_text(PACKAGES)
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--target", directory]
        if subprocess.run([sys.executable, "-m", "pip", "install", *options, "-r", wanted]).returncode:
            skip("no packages from PyPI")
        wanted.rename(ready)
    sys.path.insert(0, str(directory))


def number(quantity):
    unit = next((unit for unit in UNITS if quantity.endswith(unit)), "")
    return float(quantity.removesuffix(unit)) * UNITS.get(unit, 1)


def check_rules(spec):
    """What the API server refuses, but the schema does not tell."""
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] <= spec["completions"]
    assert spec["maxFailedIndexes"] <= spec["completions"]
    assert spec["podReplacementPolicy"] == "Failed"  # all there is with a podFailurePolicy
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    names = {container["name"] for container in pod["containers"]}
    for rule in spec["podFailurePolicy"]["rules"]:
        assert rule["action"] in ("Ignore", "Count", "FailJob", "FailIndex")
        assert rule["action"] != "FailIndex" or "backoffLimitPerIndex" in spec
        codes = rule.get("onExitCodes")
        if codes:
            assert codes["operator"] in ("In", "NotIn") and codes["containerName"] in names
            assert codes["values"] == sorted(set(codes["values"])) and 0 not in codes["values"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def environment_of(container):
    """As the downward API gives it: processors rounded up, memory in bytes."""
    result = {}
    for variable in container["env"]:
        if "value" in variable:
            result[variable["name"]] = variable["value"]
        else:
            field = variable["valueFrom"]["resourceFieldRef"]
            assert field["containerName"] == container["name"]
            where, what = field["resource"].split(".")
            result[variable["name"]] = str(math.ceil(number(container["resources"][where][what])))
    return result


def main():
    build, kvot, data = sys.argv[1:]
    install(pathlib.Path(build) / "kubernetes")
    import kubernetes_validate
    import yaml

    manifest = yaml.safe_load((SAMPLES / "kubernetes.yaml").read_text())
    version = kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    print(f"valid for Kubernetes {version}")
    check_rules(manifest["spec"])

    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert manifest["spec"]["completions"] == SHARDS
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        tree = Tree(kvot, data, directory, caches="caches")
        (directory / "bin").mkdir()
        (directory / "bin" / "kvot").symlink_to(tree.kvot)
        command = container["command"]
        for mount in container["volumeMounts"]:
            at = {"caches": tree.caches, "small": tree.small}[mount["name"]]
            assert f" {mount['mountPath']}" in command[-1]
            command = [word.replace(f" {mount['mountPath']}", f" {at}") for word in command]
        tree.small.mkdir()  # a volume is there before the pod
        for index in range(SHARDS):
            environment = environment_of(container)
            environment["JOB_COMPLETION_INDEX"] = str(index)
            environment["PATH"] = f"{directory / 'bin'}:/usr/bin:/bin"
            subprocess.run(command, cwd="/", env=environment, stdin=subprocess.DEVNULL, check=True)
        tree.check()


if __name__ == "__main__":
    main()
