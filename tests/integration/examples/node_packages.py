"""The Node example in the build folder, with the packages that npm finds for its package.json.

They stay there until package.json asks for something else. Nothing of npm comes into the tree.
"""

import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Beside what the example needs: clients of health and server reflection that are not ours.
FOR_TESTS = ("grpc-health-check@^2.0.0", "grpc-reflection-js@^0.3.0")
INSTALL_TIMEOUT_S = 240


def install(folder):
    """Makes folder/node ready to run; returns why not, in one line, or nothing."""
    node = folder / "node"
    node.mkdir(parents=True, exist_ok=True)
    source = ROOT / "client/grpc/node"
    for file in source.glob("*.js"):
        shutil.copy(file, node)
    for file in (pathlib.Path(__file__).parent).glob("*.js"):
        shutil.copy(file, node)
    shutil.copy(ROOT / "client/grpc/retry_info.proto", folder)
    for program in ("node", "npm"):
        if not shutil.which(program):
            return f"{program} is not installed; run scripts/setup"
    wanted = (source / "package.json").read_text() + " ".join(FOR_TESTS)
    installed = folder / "installed"
    if installed.exists() and installed.read_text() == wanted:
        return ""
    shutil.rmtree(node / "node_modules", ignore_errors=True)
    shutil.copy(source / "package.json", node)
    words = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--no-save", "--ignore-scripts",
             "--fetch-retries=1", "--fetch-timeout=30000", *FOR_TESTS]
    try:
        made = subprocess.run(words, cwd=node, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"npm did not get its packages within {INSTALL_TIMEOUT_S} s; is the npm registry within reach?"
    if made.returncode != 0:
        said = " ".join(made.stderr.split())[-500:]
        return f"npm could not install its packages; is the npm registry within reach? It said: {said}"
    installed.write_text(wanted)
    return ""
