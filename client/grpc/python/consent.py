"""May this process send? What its user said: the environment, the consent files, the daemon's policy file.

telemetryd sees neither the environment of a sender nor its files, so the sender asks. Off wins, and
whatever cannot be understood is off. A file is regular and small, or it is not understood.
"""

import json
import os
import re
import stat
import tomllib

FILE_BYTES_MAX = 4096
YES = ("1", "true", "on", "yes")
NO = ("0", "false", "off", "no")
STATES = {"enabled": "enabled", "disabled": "disabled", "opted-out": "disabled", "local": "local", "unset": "unset"}
STATUSES = {"Granted": "enabled", "Denied": "disabled", "OptedOut": "disabled", "Unknown": "unset"}
POLICIES = ("opt-in", "opt-out", "off")


def word(name):
    """What a variable says: "yes", "no", "unset", or "unknown"."""
    text = os.environ.get(name, "").strip(" \t\r\n").lower()
    if not text:
        return "unset"
    return "yes" if text in YES else "no" if text in NO else "unknown"


def read_small(path):
    """The text of a file; None when there is none. Raises when it cannot be read."""
    try:
        # A pipe in its place must not keep us waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is no regular file")
        text = file.read(FILE_BYTES_MAX + 1)
    if len(text) > FILE_BYTES_MAX:
        raise ValueError("is too long")
    return text.decode("utf-8")


def state_in(text):
    """The decision in a consent.toml, or in the JSON file of telemetry-kit."""
    if text.lstrip(" \t\r\n").startswith("{"):
        pairs = json.loads(text, object_pairs_hook=list)
        (status,) = (value for key, value in pairs if key == "status")
        return STATUSES[status]
    values = tomllib.loads(text)
    if str(values.get("version", 1)) != "1":
        raise ValueError("has a version that is not known")
    return STATES[values["state"]]


def consent_state(app):
    """ "enabled", "disabled", "local", "unset", or "unreadable"."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not folder.startswith("/"):
        home = os.environ.get("HOME", "")
        if not home.startswith("/"):
            return "unset"
        folder = os.path.join(home, ".config")
    try:
        text = read_small(os.path.join(folder, app, "consent.toml"))
        return "unset" if text is None else state_in(text)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "unreadable"


def policy_beside(socket):
    """What the daemon published beside its sockets; "opt-out" or "opt-in" leave the rest to its answer."""
    try:
        text = read_small(os.path.join(os.path.dirname(socket), "policy"))
    except (OSError, ValueError):
        return "off"
    if text is None:
        return "unset"
    policy = text.split("\n", 1)[0].split("=", 1)[-1].strip(' \t\r"')
    return policy if policy in POLICIES else "off"


def why_off(app, socket):
    """The rule that forbids to send, or None: then telemetryd decides by what it knows."""
    for name in ("DO_NOT_TRACK", "DNT"):
        if word(name) in ("yes", "unknown"):
            return f"{name} is set"
    variable = re.sub("[^A-Z0-9]", "_", re.sub("[a-z]", lambda letter: letter[0].upper(), app)) + "_TELEMETRY"
    if word(variable) in ("no", "unknown"):
        return f"{variable} says so"
    # "local" wants the events kept on this machine, which a sender over gRPC cannot pass on.
    for tool in (app, "telemetryd"):
        state = consent_state(tool)
        if state in ("disabled", "local", "unreadable"):
            return f"consent.toml of {tool} is {state}"
    return "the machine's policy is off" if policy_beside(socket) == "off" else None
