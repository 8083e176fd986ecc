"""Messages and stubs from the .proto files of this tree, made when they are first imported.

They go into a folder that ends with the process: protoc needs less time than looking whether older
ones still fit.
"""

import atexit
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROTOS = ("telemetry/v1/event.proto", "telemetry/v1/ingest.proto", "telemetry/v1/lease.proto", "retry_info.proto")


def generate(folder):
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"-I{ROOT / 'client/grpc'}", f"--python_out={folder}",
                    f"--grpc_out={folder}", f"--plugin=protoc-gen-grpc={shutil.which('grpc_python_plugin')}", *PROTOS],
                   check=True)


FOLDER = tempfile.mkdtemp(prefix="telemetryd-stubs-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
generate(FOLDER)
sys.path.insert(0, FOLDER)

import retry_info_pb2 as retry_info  # noqa: E402,F401
from telemetry.v1 import event_pb2 as event  # noqa: E402,F401
from telemetry.v1 import ingest_pb2 as ingest  # noqa: E402,F401
from telemetry.v1 import ingest_pb2_grpc as ingest_grpc  # noqa: E402,F401
from telemetry.v1 import lease_pb2 as lease  # noqa: E402,F401
