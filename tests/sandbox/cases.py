# ruff: noqa: E501 - lines of code in texts
"""The escape corpus: what code tries in a sandbox, and must not get (R-105 to R-108, R-111).

Rules
1. A case is code that calls `attempt` for each way that it tries. What works prints ``YES``: a
   case that holds has at least one ``no:`` and not one ``YES``.
2. `{port}`, `{path}`, `{name}` and `{secret}` are those of a server of the test outside: its TCP port on
   the loopback, its unix socket, the name of its abstract one, and a word of its environment,
   backwards.
"""

from typing import Final

PRELUDE: Final = '''
import ctypes, glob, os, platform, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)

def attempt(what, *words):
    try:
        got = what(*words)
    except BaseException as error:
        print("no:", type(error).__name__, error)
    else:
        print("YES", what, words, repr(got)[:300])

def read(path):
    with open(path, "rb") as file:
        found = file.read(4096)
    if not found:
        raise ValueError("nothing")
    return found

def write(path, content="x"):
    with open(path, "w") as file:
        file.write(content)

def call(number, *words):
    """A system call by its number on x86_64."""
    if platform.machine() != "x86_64":
        raise OSError("another machine")
    got = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, words))
    if got == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got

def command(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=5)
    if done.returncode:
        raise OSError(done.stderr[:200])
    return done.stdout

def find(word, places):
    """Files that have it."""
    hits = []
    for place in places:
        try:
            if word in read(place):
                hits.append(place)
        except (OSError, ValueError):
            pass
    if not hits:
        raise ValueError("nowhere")
    return hits
'''

NETWORK: Final = {
    "loopback of the host": """
        attempt(socket.create_connection, ("127.0.0.1", {port}), 2)
        attempt(socket.create_connection, ("localhost", {port}), 2)
        attempt(socket.create_connection, ("0.0.0.0", {port}), 2)
    """,
    "outside": """
        for host in ("1.1.1.1", "10.0.0.1", "169.254.169.254", "192.168.0.1", "172.17.0.1"):
            attempt(socket.create_connection, (host, 80), 2)
    """,
    "names": """
        attempt(socket.getaddrinfo, "example.com", 80)
        import urllib.request
        attempt(urllib.request.urlopen, "http://example.com", None, 2)
    """,
    "datagrams": """
        def send(host):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                return one.sendto(b"x" * 20, (host, 53))
        for host in ("8.8.8.8", "169.254.169.254", "255.255.255.255"):
            attempt(send, host)
    """,
    "abstract socket of the host": """
        def connect():
            socket.socket(socket.AF_UNIX).connect(chr(0) + "{name}")
        attempt(connect)
        attempt(lambda: [x for x in open("/proc/net/unix") if "{name}" in x][0])
    """,
    "unix sockets of the host": """
        for path in ("{path}", "/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket"):
            attempt(socket.socket(socket.AF_UNIX).connect, path)
            attempt(os.stat, path)
    """,
    "other families of sockets": """
        for family in (3, 9, 10, 15, 17, 21, 29, 30, 31, 38, 40, 44):
            attempt(socket.socket, family, socket.SOCK_DGRAM, 0)
        attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
        attempt(socket.socket, socket.AF_INET, socket.SOCK_STREAM, 132)
        attempt(socket.socket, socket.AF_INET, socket.SOCK_STREAM, 262)
        for protocol in (4, 6, 9, 12, 15, 16, 20, 21):
            attempt(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    """,
    "other interfaces": """
        attempt(lambda: [x for x in socket.if_nameindex() if x[1] != "lo"][0])
        attempt(socket.sethostname, "other")
        def up():
            import fcntl, struct
            fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH22x", b"lo", 0))
        attempt(up)
    """,
}

FILES: Final = {
    "files of the system": """
        for path in ("/etc/shadow", "/etc/passwd", "/etc/hostname", "/etc/ssl/private", "/etc/hosts"):
            attempt(read, path)
    """,
    "folders of people": """
        for path in ("/root", "/home", "/var", "/srv", "/boot", "/sys", "/work", "/media", "/mnt/host"):
            attempt(os.listdir, path)
    """,
    "files of the server": """
        for path in ("{folder}", "{folder}/antiphon.db", "{folder}/data", "{path}"):
            attempt(os.stat, path)
            attempt(os.stat, "/proc/1/root" + path)
            attempt(os.stat, "/mnt/data/../.." + path)
    """,
    "its project": """
        import importlib.util
        attempt(read, "{project}/pyproject.toml")
        attempt(os.listdir, "{project}")
        attempt(lambda: importlib.util.find_spec("antiphon").origin)
    """,
    "disks": """
        for name in ("/dev/vda", "/dev/sda", "/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun"):
            attempt(read, name)
        attempt(os.mknod, "/tmp/disk", 0o60666, os.makedev(254, 0))
        attempt(os.mknod, "/dev/disk", 0o20666, os.makedev(1, 1))
    """,
    "the roots of others": """
        for one in os.listdir("/proc"):
            if one.isdigit():
                attempt(os.stat, "/proc/" + one + "/root/etc/shadow")
                attempt(os.stat, "/proc/" + one + "/root{folder}")
        attempt(os.open, "/proc/1/root", os.O_RDONLY)
        attempt(os.listdir, "/proc/1/cwd")
    """,
    "inherited descriptors": """
        def foreign():
            mine = ("/run", "/tmp", "/dev", "/mnt/data", "/usr", "/opt", "/proc", "socket:", "pipe:", "anon_inode:")
            return [to for one in os.listdir("/proc/self/fd") if os.path.lexists("/proc/self/fd/" + one)
                    for to in [os.readlink("/proc/self/fd/" + one)] if not to.startswith(mine)][0]
        attempt(foreign)
    """,
    "read-only places": """
        for path in ("/usr/bin/x", "/opt/python/x", "/opt/inside.py", "/etc/x", "/x", "/lib/x", "/mnt/x", "/dev/x"):
            attempt(write, path)
        attempt(os.remove, "/opt/inside.py")
        attempt(os.rename, "/opt/python", "/tmp/python")
        attempt(os.chmod, "/usr/bin/env", 0o777)
        attempt(os.link, "/usr/bin/env", "/usr/bin/env2")
    """,
    "settings of the kernel": """
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/msgmax", "/proc/sysrq-trigger",
                     "/proc/self/oom_score_adj", "/proc/self/uid_map", "/proc/sys/user/max_user_namespaces",
                     "/proc/self/setgroups", "/proc/sys/net/ipv4/ip_forward", "/proc/self/mem"):
            attempt(write, path, "1")
    """,
    "host of handles": """
        attempt(call, 303, -100, 0, 0, 0, 0)
        attempt(call, 304, -100, 0, 0)
    """,
}

SECRETS: Final = {
    "environment of the server": """
        word = "{secret}"[::-1].encode()
        attempt(find, word, glob.glob("/proc/*/environ") + glob.glob("/proc/*/task/*/environ"))
        attempt(lambda: [name for name in os.environ if "ANTIPHON" in name or "KEY" in name][0])
    """,
    "command lines": """
        word = "{secret}"[::-1].encode()
        attempt(find, word, glob.glob("/proc/*/cmdline") + glob.glob("/proc/*/task/*/comm"))
        attempt(find, b"bwrap", glob.glob("/proc/*/cmdline"))
    """,
    "memory of the supervisor": """
        for name in ("mem", "maps", "environ", "fd", "fdinfo", "auxv", "stack", "syscall", "io", "exe", "map_files"):
            path = "/proc/1/" + name
            attempt(os.readlink if name == "exe" else os.listdir if name in ("fd", "fdinfo", "map_files") else read, path)
        attempt(call, 310, 1, 0, 0, 0, 0, 0)
        attempt(call, 311, 1, 0, 0, 0, 0, 0)
    """,
    "pipes of the supervisor": """
        for number in range(12):
            attempt(os.open, "/proc/1/fd/" + str(number), os.O_WRONLY)
        attempt(call, 438, 1, 0, 0)
        def get():
            return call(438, os.pidfd_open(1), 0, 0)
        attempt(get)
    """,
    "keys of the kernel": """
        attempt(call, 248, 0, 0, 0, 0, -2)
        attempt(call, 249, 0, 0, 0, 0)
        attempt(call, 250, 0, -3, 0)
    """,
}

PROCESSES: Final = {
    "signals to the supervisor": """
        for number in (1, 2, 3, 6, 9, 11, 13, 15, 19, 20):
            os.kill(1, number)
        time.sleep(0.3)
        attempt(lambda: [x for x in read("/proc/1/stat").split() if x in (b"T", b"Z", b"X")][0])
    """,
    "processes of the host": """
        attempt(os.kill, {pid}, 0)
        attempt(os.kill, {pid}, 9)
        attempt(os.pidfd_open, {pid})
        attempt(os.stat, "/proc/{pid}")
        attempt(os.getpgid, {pid})
        attempt(os.sched_getaffinity, {pid})
    """,
    "a guess at every process": """
        seen = [one for one in range(2, 40_000) if os.path.exists("/proc/" + str(one) + "/stat")]
        print("no: seen", len(seen))
        mine = (b"ipykernel", b"/opt/inside.py")
        attempt(lambda: [(one, line) for one in seen for line in [read("/proc/" + str(one) + "/cmdline")] if not any(x in line for x in mine)][0])
    """,
    "looking into others": """
        attempt(call, 101, 16, 1, 0, 0)
        attempt(call, 101, 0, 0, 0, 0)
        child = subprocess.Popen(["sleep", "5"])
        attempt(call, 101, 16, child.pid, 0, 0)
        child.kill(); child.wait()
    """,
    "more rights": """
        attempt(os.setuid, 0)
        attempt(os.setgid, 0)
        attempt(os.setgroups, [0])
        attempt(os.setresuid, 0, 0, 0)
        attempt(os.setpriority, os.PRIO_PROCESS, 0, -5)
        import resource
        attempt(resource.setrlimit, resource.RLIMIT_NPROC, (100_000, 100_000))
        attempt(resource.setrlimit, resource.RLIMIT_DATA, (1 << 40, 1 << 40))
        attempt(resource.setrlimit, resource.RLIMIT_NICE, (40, 40))
        attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
        attempt(os.chown, "/mnt/data", 0, 0)
    """,
    "setuid programs": """
        found = [path for folder in ("/usr/bin", "/usr/sbin", "/usr/lib")
                 for path in glob.glob(folder + "/*") if os.path.isfile(path) and os.stat(path).st_mode & 0o4000]
        print("no: found", len(found))
        for words in (("su", "-c", "id"), ("sudo", "-n", "id"), ("mount", "-t", "tmpfs", "x", "/tmp"), ("newgrp",), ("ping", "-c1", "127.0.0.1")):
            attempt(command, *words)
        attempt(lambda: [x for x in open("/proc/self/status") if x.startswith("NoNewPrivs:") and x.split()[1] != "1"][0])
        attempt(lambda: [x for x in open("/proc/self/status") if x.startswith("Cap") and int(x.split()[1], 16)][0])
    """,
    "nested namespaces": """
        attempt(call, 272, 0x80)
        for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
            attempt(call, 272, flag)
            attempt(call, 56, flag | 17, 0, 0, 0, 0)
        attempt(call, 435, 0, 0)
        attempt(command, "unshare", "-Ur", "id")
        attempt(command, "bwrap", "--ro-bind", "/", "/", "id")
    """,
    "namespaces of others": """
        for name in ("user", "mnt", "pid", "net", "ipc"):
            attempt(os.open, "/proc/1/ns/" + name, os.O_RDONLY)
            attempt(os.readlink, "/proc/1/ns/" + name)
        attempt(call, 308, os.open("/proc/self/ns/net", os.O_RDONLY), 0)
        attempt(call, 308, os.pidfd_open(1), 0x20000)
    """,
    "mounts": """
        attempt(call, 165, 0, 0, 0, 0, 0)
        attempt(call, 166, 0, 0)
        attempt(call, 155, 0, 0)
        attempt(os.chroot, "/tmp")
        for number in (428, 429, 430, 431, 432, 433, 442, 467):
            attempt(call, number, 0, 0, 0, 0, 0)
        for words in (("mount", "-o", "remount,rw", "/usr"), ("mount", "-t", "proc", "x", "/tmp"), ("umount", "/usr")):
            attempt(command, *words)
    """,
    "doors of the kernel": """
        for number in (321, 425, 426, 427, 323, 298, 312, 319, 447, 300, 294, 253, 175, 313, 320, 246, 169, 103, 172, 173, 154, 163):
            attempt(call, number, 0, 0, 0, 0, 0)
        attempt(time.clock_settime, time.CLOCK_REALTIME, 0)
    """,
    "memory of nobody": """
        attempt(os.memfd_create, "x")
        attempt(call, 29, 0, 1 << 20, 0o1600)
        attempt(call, 68, 0, 0o1600)
        attempt(call, 64, 0, 1, 0o1600)
        attempt(call, 240, 0, 0o102, 0o600, 0)
    """,
    "other conventions": """
        def old():
            import mmap
            page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE, 7)
            page.write(bytes.fromhex("b814000000cd80c3"))  # getpid of 32 bits
            address = ctypes.addressof(ctypes.c_char.from_buffer(page))
            child = os.fork()
            if not child:
                os._exit(0 if ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0 else 1)
            return child
        def x32():
            child = os.fork()
            if not child:
                libc.syscall(ctypes.c_long(0x40000000 + 39))
                os._exit(0)
            return child
        def ends_well(start):
            if platform.machine() != "x86_64" or (status := os.waitpid(start(), 0)[1]):
                raise OSError("killed")
        attempt(ends_well, old)
        attempt(ends_well, x32)
    """,
    "terminals": """
        import fcntl, pty, termios
        attempt(os.open, "/dev/tty", os.O_RDWR)
        for number in (0, 1, 2):
            attempt(fcntl.ioctl, number, termios.TIOCSTI, b"x")
        attempt(os.open, "/dev/console", os.O_RDWR)
        attempt(lambda: [x for x in os.listdir("/dev/pts") if x not in ("ptmx",)][0])
    """,
}

ESCAPES: Final = {**NETWORK, **FILES, **SECRETS, **PROCESSES}
