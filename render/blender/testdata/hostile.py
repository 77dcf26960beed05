"""A runner that does what somebody would do who can run code inside Blender.

It answers requests like the real one. A request names an attack and what it
is aimed at; the answer says whether it went well and what was found. Bombs are
bounded by the request, so that they can be shown where nothing stops them.
"""

import ctypes
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time

import bpy

libc = ctypes.CDLL(None, use_errno=True)
CALLS = {
    "x86_64": {
        "add_key": 248, "bpf": 321, "perf_event_open": 298, "io_uring_setup": 425, "userfaultfd": 323, "kcmp": 312,
        "clone": 56, "clone3": 435, "process_vm_readv": 310, "name_to_handle_at": 303, "open_by_handle_at": 304,
        "setns": 308, "shmget": 29, "ptrace": 101, "fsopen": 430, "fallocate": 285,
    },
    "aarch64": {
        "add_key": 217, "bpf": 280, "perf_event_open": 241, "io_uring_setup": 425, "userfaultfd": 282, "kcmp": 272,
        "clone": 220, "clone3": 435, "process_vm_readv": 270, "name_to_handle_at": 264, "open_by_handle_at": 265,
        "setns": 268, "shmget": 194, "ptrace": 117, "fsopen": 430, "fallocate": 47,
    },
}[platform.machine()]
NEWUSER, NEWNS = 0x10000000, 0x00020000
attacks = {}


def attack(f):
    attacks[f.__name__] = f
    return f


def call(name, *args):
    """A system call; what it returns, or its error."""
    n = libc.syscall(CALLS[name], *(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    if n == -1:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return n


def in_child(f):
    """Whether f goes well in a process of its own."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            f()
            code = 0
        except OSError as e:
            code = e.errno or 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code) if code > 0 else f"signal {-code}")


# Files.

@attack
def write(r):
    os.makedirs(os.path.dirname(r["path"]), exist_ok=True)
    with open(r["path"], "w") as f:
        f.write("x")


@attack
def write_input(r):
    with open(os.path.join(r["in"], "planted"), "w") as f:
        f.write("x")


@attack
def change_input(r):
    with open(os.path.join(r["in"], "registered.blend"), "r+b") as f:
        f.write(b"x")


@attack
def read(r):
    with open(r["path"], errors="replace") as f:
        return f.read(4096)


@attack
def listing(r):
    return " ".join(sorted(os.listdir(r["path"])))


@attack
def hard_link(r):
    os.link(r["path"], os.path.join(r["out"], "frame.png"))


@attack
def rename_out(r):
    """Moves a file of the owner's to where it is delivered from."""
    os.rename(r["path"], os.path.join(r["out"], "moved.png"))


@attack
def read_device(r):
    with open(r["path"], "rb", buffering=0) as f:
        return str(len(f.read(512)))


@attack
def make_device(r):
    path = os.path.join(r["out"], "device")
    os.mknod(path, 0o600 | 0o060000, os.makedev(r["major"], r["minor"]))
    with open(path, "rb", buffering=0) as f:
        return str(len(f.read(512)))


@attack
def setuid(r):
    return subprocess.run([os.path.join(r["in"], "id"), "-u"], check=True, capture_output=True, text=True).stdout.strip()


@attack
def setuid_system(_):
    """Whether programs of the system still get their owner's rights."""
    status = open("/proc/self/status").read()
    if "NoNewPrivs:\t1" in status:
        raise OSError(1, "no new privileges")


# Processes.

@attack
def kill(r):
    os.kill(r["pid"], signal.SIGKILL)


@attack
def ptrace(r):
    call("ptrace", 0x4206, r["pid"], 0, 0)  # PTRACE_SEIZE


@attack
def ptrace_child(_):
    in_child(lambda: call("ptrace", 0, 0, 0, 0))  # PTRACE_TRACEME


@attack
def read_memory(_):
    text = ctypes.create_string_buffer(b"memory")
    copy = ctypes.create_string_buffer(6)
    local = struct.pack("PP", ctypes.addressof(copy), 6)
    remote = struct.pack("PP", ctypes.addressof(text), 6)
    call("process_vm_readv", os.getpid(), local, 1, remote, 1, 0)
    return copy.raw.decode()


# The kernel.

@attack
def keyring(_):
    call("add_key", b"user", b"idlewild-test", b"x", 1, -1)  # of this thread


@attack
def unshare_user(_):
    def f():
        if libc.unshare(NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
    in_child(f)


def cloned(make):
    pid = make()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@attack
def clone_user(_):
    cloned(lambda: call("clone", NEWUSER | signal.SIGCHLD, None, None, None, None))


@attack
def clone3_user(_):
    args = struct.pack("8Q", NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    cloned(lambda: call("clone3", args, len(args)))


@attack
def mount(r):
    def f():
        if libc.unshare(NEWUSER | NEWNS) != 0 and libc.unshare(NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        if libc.mount(b"none", r["out"].encode(), b"tmpfs", 0, None) != 0:
            raise OSError(ctypes.get_errno(), "mount")
    in_child(f)


@attack
def system_call(r):
    """Calls that open something; those that are left are told by their number."""
    name = r["name"]
    if name == "bpf":  # BPF_MAP_CREATE, an array
        attr = struct.pack("4I", 2, 4, 4, 1) + bytes(112)
        os.close(call("bpf", 0, attr, len(attr)))
    elif name == "perf_event_open":  # a software clock, of this process
        attr = struct.pack("IIQ", 1, 112, 0) + bytes(96)
        os.close(call("perf_event_open", attr, 0, -1, -1, 0))
    elif name == "io_uring_setup":
        os.close(call("io_uring_setup", 1, bytes(120)))
    elif name == "userfaultfd":
        os.close(call("userfaultfd", 1))  # of user space alone
    elif name == "kcmp":
        call("kcmp", os.getpid(), os.getpid(), 1, 0, 0)
    elif name == "shmget":
        libc.shmctl(call("shmget", 0, 4096, 0o1600), 0, None)
    elif name == "fsopen":
        os.close(call("fsopen", b"tmpfs", 0))
    elif name == "fallocate":
        with open(os.path.join(r["out"], "allocated"), "wb") as f:
            call("fallocate", f.fileno(), 0, 0, 1 << 20)
    else:
        raise OSError(0, "no such attack")


@attack
def file_handle(r):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    mount_id = ctypes.c_int()
    call("name_to_handle_at", -100, r["in"].encode(), handle, ctypes.byref(mount_id), 0)
    folder = os.open(r["in"], os.O_RDONLY)
    try:
        os.close(call("open_by_handle_at", folder, handle, 0))
    finally:
        os.close(folder)


@attack
def type_into_terminal(_):
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, 0x5412, b"x")  # TIOCSTI
    finally:
        os.close(master)
        os.close(slave)


# The network.

@attack
def tcp(r):
    socket.create_connection((r["host"], r["port"]), timeout=2).close()


@attack
def udp(r):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01", (r["host"], r["port"]))


@attack
def unix(r):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(2)
        s.connect(r["path"].replace("@", "\0"))


@attack
def vsock(_):
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


@attack
def raw_socket(_):
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


@attack
def netlink(_):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


# Bombs.

def mib(n):
    return n << 20


@attack
def fork_bomb(r):
    pids = []
    try:
        for _ in range(r["n"]):
            pids.append(os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}))
        time.sleep(1)  # they stay: where the kernel refuses none, the watch must see them
        return str(len(pids))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@attack
def memory_bomb(r):
    held = []
    for _ in range(r["n"] // 64):
        held.append(ctypes.create_string_buffer(mib(64)))
        ctypes.memset(held[-1], 1, mib(64))
    return str(64 * len(held))


@attack
def memfd_bomb(r):
    """Memory that no process has mapped."""
    fds = []
    block = b"x" * mib(64)
    try:
        for _ in range(r["n"] // 64):
            fds.append(os.memfd_create("bomb"))
            if os.write(fds[-1], block) != len(block):
                raise OSError(27, "short write")
            time.sleep(0.02)
        return str(r["n"])
    finally:
        for fd in fds:
            os.close(fd)


def fill(path, n, slow=0.0):
    block = b"x" * mib(8)
    with open(path, "wb", buffering=0) as f:
        for _ in range(n // 8):
            if f.write(block) != len(block):
                raise OSError(28, "short write")
            time.sleep(slow)


@attack
def disk_bomb(r):
    for i in range(r["n"] // 32):
        fill(os.path.join(r["out"], f"bomb{i}"), 32, 0.02)
    return str(r["n"])


@attack
def one_file_bomb(r):
    fill(os.path.join(r["out"], "bomb"), r["n"])
    return str(r["n"])


@attack
def nameless_bomb(r):
    """Files that no folder shows."""
    files = []
    try:
        for _ in range(r["n"] // 32):
            path = os.path.join(r["out"], "bomb")
            files.append(open(path, "wb", buffering=0))
            os.unlink(path)
            for _ in range(4):
                files[-1].write(b"x" * mib(8))
                time.sleep(0.02)
        return str(r["n"])
    finally:
        for f in files:
            f.close()


@attack
def tmp_bomb(r):
    paths = [os.path.join(r["path"], f"idlewild-test-bomb{i}") for i in range(r["n"] // 32)]
    try:
        for path in paths:
            fill(path, 32)
        return str(r["n"])
    finally:
        for path in paths:
            if os.path.exists(path):
                os.unlink(path)


@attack
def cpu_bomb(r):
    end = time.process_time() + r["n"]
    while time.process_time() < end:
        pass
    return str(r["n"])


@attack
def stay(r):
    """Leaves a process that ignores what can be ignored, and whose parents are
    gone; then does not answer."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for s in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
                signal.signal(s, signal.SIG_IGN)
            os.execv("/bin/sh", ["sh", "-c", f"trap '' TERM HUP INT; sleep {r['mark']}; sleep {r['mark']}"])
        os._exit(0)
    os.wait()
    for s in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
        signal.signal(s, signal.SIG_IGN)
    say({"event": "progress", "id": r["id"], "phase": "staying"})
    while True:
        signal.pause()


# Scenes.

@attack
def render(r):
    bpy.ops.wm.open_mainfile(filepath=os.path.join(r["in"], r["file"]), use_scripts=r["scripts"])
    scene = bpy.context.scene
    if not r.get("own_path"):
        scene.render.filepath = os.path.join(r["out"], "frame.png")
    scene.frame_set(2)
    bpy.ops.render.render(write_still=True)


events = os.open(os.environ["IDLEWILD_EVENTS"], os.O_WRONLY | os.O_APPEND)


def say(event):
    os.write(events, json.dumps(event).encode() + b"\n")


say({"event": "ready"})
for line in sys.stdin:
    request = json.loads(line)
    answer = {"event": "done", "id": request["id"], "outcome": "succeeded", "did": True, "found": ""}
    try:
        answer["found"] = attacks[request["attack"]](request) or ""
    except (OSError, MemoryError, RuntimeError, subprocess.SubprocessError) as e:
        answer.update(did=False, why=f"{type(e).__name__}: {e}")
    say(answer)
