#!/usr/bin/env python3
"""Measures `o7s router` beside PgBouncer and a bare byte copy: `make bench-router`, or benches/router.py O7S BYTE_COPY.

Everything runs on the loopback, on throw-away Postgres clusters, and ends with the script. Rounds are interleaved, and only
ratios of one run mean something. ROUNDS (5), QUERIES (40000) and IDLE (1000,5000) can be set in the environment.
"""
import glob, json, math, multiprocessing, os, platform, pwd, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time

ROUNDS, QUERIES = int(os.environ.get("ROUNDS", 5)), int(os.environ.get("QUERIES", 40000))
IDLE = [int(n) for n in os.environ.get("IDLE", "1000,5000").split(",")]
O7S, COPY = (os.path.abspath(path) for path in sys.argv[1:3])
BIN = os.environ.get("O7S_PG_BIN") or sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
TICK = os.sysconf("SC_CLK_TCK")
PORT = "select current_setting('port')"
children = []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def as_postgres(command):
    # runuser's session may allow 1,024 descriptors; a pooler with 5,000 clients needs what this process may have.
    more = ["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh"]
    return ["runuser", "-u", "postgres", "--", *more, *command] if os.getuid() == 0 else command


def quiet(command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, **more)


def wait_for(port):
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise SystemExit(f"nothing listens on port {port}")


def spawn(command, port, name):
    log = open(f"{folder}/{name}.log", "w")
    child = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    children.append(child)
    wait_for(port)
    return child


def listener_pid(child, needle):
    """The process itself, behind runuser where there is one."""
    for pid in os.listdir("/proc"):
        try:
            if pid.isdigit() and needle in open(f"/proc/{pid}/cmdline").read() and open(f"/proc/{pid}/comm").read() not in ("runuser\n", "sh\n"):
                return int(pid)
        except OSError:
            pass
    return child.pid


def cpu(pid):
    """Seconds, counted in nanoseconds where the kernel keeps them; its ticks are 10 ms."""
    try:
        return sum(int(open(path).read().split()[0]) for path in glob.glob(f"/proc/{pid}/task/*/schedstat")) / 1e9
    except OSError:
        fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid):
    return int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS")).split()[1])


def cluster(name):
    data, port = f"{folder}/{name}", free_port()
    quiet(as_postgres([f"{BIN}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]))
    with open(f"{data}/postgresql.conf", "a") as conf:
        conf.write(f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nmax_connections=300\n"
                   "fsync=off\nsynchronous_commit=off\nshared_buffers=256MB\nautovacuum=off\n")
    quiet(as_postgres([f"{BIN}/pg_ctl", "-D", data, "-w", "-l", f"{data}/log", "start"]))
    clusters.append(data)
    sql(port, "create role bench superuser login password 'secret'", user="postgres", database="postgres")
    sql(port, "create database bench owner bench", user="postgres", database="postgres")
    quiet([f"{BIN}/pgbench", "-q", "-i", "-s", "1", "-h", "127.0.0.1", "-p", str(port), "-U", "bench", "bench"])
    return port


def sql(port, text, user="bench", database="bench"):
    command = [f"{BIN}/psql", "-XqAt", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-d", database, "-c", text]
    return quiet(command, env={**os.environ, "PGPASSWORD": "secret"}).stdout.strip()


def pgbench(port, clients, queries, *flags, **env):
    """p50 and p99 in microseconds."""
    with tempfile.TemporaryDirectory(dir=folder) as logs:
        command = [f"{BIN}/pgbench", "-n", "-S", "-h", "127.0.0.1", "-p", str(port), "-U", "bench", "-c", str(clients), "-j", "1",
                   "-t", str(max(1, queries // clients)), "-l", "--log-prefix", f"{logs}/l", *flags, "bench"]
        quiet(command, env={**os.environ, "PGPASSWORD": "secret", **env})
        times = sorted(int(line.split()[2]) for path in glob.glob(f"{logs}/l*") for line in open(path))
    return times[len(times) // 2], times[len(times) * 99 // 100]


def rounds(targets, measure):
    """Median of each target's measurements, the targets taken in turn."""
    found = {name: [] for name in targets}
    for _ in range(ROUNDS):
        for name, (port, pid) in targets.items():
            found[name].append(measure(port, pid))
    return {name: [statistics.median(column) for column in zip(*values)] for name, values in found.items()}


def ready(s):
    answer = b""
    while not answer.endswith((b"Z\0\0\0\5I", b"Z\0\0\0\5T")):
        part = s.recv(4096)
        if not part:
            raise SystemExit(f"a client was sent away: {answer!r}")
        answer += part
    return answer


def idle_client(port, database="bench"):
    s = socket.create_connection(("127.0.0.1", port), 20)
    body = struct.pack("!i", 196608) + f"user\0bench\0database\0{database}\0\0".encode()
    s.sendall(struct.pack("!i", len(body) + 4) + body)
    ready(s)
    return s


def ask(s, text):
    """The one value a query answers with, or nothing."""
    body = text.encode() + b"\0"
    s.sendall(b"Q" + struct.pack("!i", len(body) + 4) + body)
    answer = ready(s)
    at = answer.find(b"D\0") + 7
    return answer[at + 4:at + 4 + struct.unpack("!i", answer[at:at + 4])[0]].decode() if at > 6 else ""


class Asking:
    """A client that asks for its server's port over and over, in a process of its own because Python's threads wait for one
    another: the longest gap between two answers, when it ended, and when each server was first seen."""

    def __init__(self, port, database):
        self.results, told = multiprocessing.Pipe(duplex=False)
        self.stop = multiprocessing.Event()
        self.process = multiprocessing.Process(target=self.run, args=(port, database, told), daemon=True)
        self.process.start()
        told.close()
        self.results.recv()

    def run(self, port, database, told):
        client, gap, ended, seen = idle_client(port, database), 0.0, 0.0, {}
        ask(client, PORT)
        told.send(None)
        last = time.monotonic()
        while not self.stop.is_set():
            server, now = int(ask(client, PORT)), time.monotonic()
            if now - last > gap:
                gap, ended = now - last, now
            last = now
            seen.setdefault(server, now)
            time.sleep(0.0005)
        told.send((gap * 1000, ended, seen))

    def end(self):
        """The gap in ms, the time it ended, first sight of each server."""
        self.stop.set()
        found = self.results.recv()
        self.process.join()
        return found


def row(figure, ours, bouncer=None, floor=None, target=""):
    ratio = lambda other: f"{ours / other:.2f}" if other else "–"
    shown = lambda value: "–" if value is None else f"{value:.3g}"
    print(f"| {figure} | {shown(ours)} | {shown(bouncer)} | {shown(floor)} | {ratio(bouncer)} | {ratio(floor)} | {target} |", flush=True)


def write_routes(name, entries):
    with open(f"{folder}/{name}.new", "w") as file:
        json.dump({"routes": entries}, file)


def routes(**entries):
    write_routes(routes.name, entries)
    os.replace(f"{folder}/{routes.name}.new", f"{folder}/{routes.name}.json")


def spawn_scram_router(server):
    port = free_port()
    routes.name = "scram"
    routes(bench={"endpoint": f"127.0.0.1:{server}", "roles": {"bench": {"password": "secret"}}})
    spawn([O7S, "router", "--routes", "scram.json", "--listen", f"127.0.0.1:{port}", "--workers", "1"], port, "scram")
    return port


def system_calls(targets, protocol):
    """A query, at 64 clients; perf slows its target, so this run tells nothing about CPU."""
    command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p"]
    if not shutil.which("perf") or subprocess.run([*command[:-1], "true"], capture_output=True).returncode:
        return print("perf may not count system calls here: their rows are left out", file=sys.stderr)
    def count(port, pid):
        perf = subprocess.Popen([*command, str(pid)], stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        pgbench(port, 64, QUERIES, "-M", protocol)
        perf.send_signal(signal.SIGINT)
        counted = perf.communicate(timeout=20)[1].strip().splitlines()[-1]
        return [int(counted.split(",")[0]) / (QUERIES // 64 * 64)]
    got = rounds(targets, count)
    row(f"system calls a query, {protocol}, 64 clients", *(got.get(name, [None])[0] for name in ("o7s", "pgbouncer", "floor")), "≤ 4.5")


def queries(targets, label, flags, bounds, **env):
    for clients in (16, 64):
        def measure(port, pid, clients=clients):
            before = cpu(pid)
            pgbench(port, clients, QUERIES, *flags, **env)
            return [(cpu(pid) - before) / QUERIES * 1e6]
        got = rounds(targets, measure)
        row(f"CPU a query, {label}, {clients} clients (us)", *(got.get(name, [None])[0] for name in ("o7s", "pgbouncer", "floor")), bounds)


def main():
    a, b = cluster("a"), cluster("b")
    ours, bounced, floor, big = (free_port() for _ in range(4))
    roles = {"bench": {"auth": "trust"}}
    route = lambda port: {"endpoint": f"127.0.0.1:{port}", "database": "bench", "serverConnections": 20, "roles": roles}
    routes.name = "routes"
    routes(bench=route(a))
    tls = []
    if shutil.which("openssl"):
        quiet(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
               "/CN=localhost", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"])
        os.chmod(f"{folder}/key.pem", 0o644)
        tls = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"]
    router = spawn([O7S, "router", "--routes", "routes.json", "--listen", f"127.0.0.1:{ours}", "--workers", "1", *tls], ours, "o7s")
    copy = spawn([COPY, f"127.0.0.1:{floor}", f"127.0.0.1:{a}"], floor, "floor")
    targets = {"o7s": (ours, router.pid), "floor": (floor, copy.pid)}
    bouncer = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if bouncer:
        secure = "client_tls_sslmode=allow\nclient_tls_key_file=key.pem\nclient_tls_cert_file=cert.pem\n" if tls else ""
        # With a password in plain text it would derive the keys anew at each login.
        verifier = sql(a, "select rolpassword from pg_authid where rolname = 'bench'")
        open(f"{folder}/users.txt", "w").write(f'"bench" "{verifier}"\n')
        open(f"{folder}/bouncer.ini", "w").write(
            f"[databases]\nbench = host=127.0.0.1 port={a}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={bounced}\nunix_socket_dir=\n"
            f"auth_type=trust\nauth_file=users.txt\npool_mode=transaction\ndefault_pool_size=20\nmax_client_conn=6000\nlog_connections=0\n"
            f"log_disconnections=0\nignore_startup_parameters=extra_float_digits\n{secure}")
        child = spawn(as_postgres([bouncer, "-q", "bouncer.ini"]), bounced, "pgbouncer")
        targets["pgbouncer"] = (bounced, listener_pid(child, "bouncer.ini"))
    else:
        print("no pgbouncer on this machine (apt-get install pgbouncer): its columns stay empty", file=sys.stderr)
    scram = {"o7s": (spawn_scram_router(a), children[-1].pid)}
    if bouncer:
        strict, ini = free_port(), open(f"{folder}/bouncer.ini").read()
        open(f"{folder}/strict.ini", "w").write(
            ini.replace(f"listen_port={bounced}", f"listen_port={strict}").replace("auth_type=trust", "auth_type=scram-sha-256"))
        child = spawn(as_postgres([bouncer, "-q", "strict.ini"]), strict, "strict")
        scram["pgbouncer"] = (strict, listener_pid(child, "strict.ini"))
    with_bouncer = {name: targets[name] for name in ("o7s", "pgbouncer") if name in targets}
    version = quiet([bouncer, "--version"]).stdout.split("\n")[0] if bouncer else "no PgBouncer"
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, {platform.system()} {platform.release()}, {version}, "
          f"PostgreSQL {sql(a, 'show server_version')}, {ROUNDS} rounds of {QUERIES} queries\n")
    print("| figure | o7s | PgBouncer | byte copy | x PgBouncer | x byte copy | must |\n|---|---|---|---|---|---|---|")

    for name, (port, pid) in with_bouncer.items():
        idle_client(port).close()
    for count in IDLE:
        got = {}
        for name, (port, pid) in with_bouncer.items():
            before, held = memory(pid), []
            held = [idle_client(port) for _ in range(count)]
            got[name] = (memory(pid) - before) / count
            for s in held:
                s.close()
            time.sleep(1)
        row(f"memory an idle client, {count} clients (KiB)", got["o7s"], got.get("pgbouncer"), None, "2 KiB")

    queries(targets, "simple", ["-M", "simple"], "≤ 0.95 x PgBouncer, ≤ 1.15 x byte copy")
    queries({name: targets[name] for name in ("o7s", "floor")}, "prepared", ["-M", "prepared"], "≤ 1.25 x byte copy")
    system_calls(targets, "simple")
    system_calls({name: targets[name] for name in ("o7s", "floor")}, "prepared")
    if tls:
        queries(with_bouncer, "simple, TLS", ["-M", "simple"], "", PGSSLMODE="require")
    for clients in (1, 16, 64):
        got = rounds(targets, lambda port, pid: pgbench(port, clients, QUERIES // (8 if clients == 1 else 2), "-M", "simple"))
        for at, name in enumerate(("p50", "p99")):
            row(f"{name}, simple, {clients} clients (us)", *(got.get(target, [None, None])[at] for target in ("o7s", "pgbouncer", "floor")), "≤ 1.05 x PgBouncer")

    connects = 1000
    def connect(port, pid):
        before = cpu(pid)
        pgbench(port, 4, connects, "-C", "-M", "simple")
        return [(cpu(pid) - before) / connects * 1e6]
    got = rounds(with_bouncer, connect)
    row("CPU a connect with one query, trust (us)", got["o7s"][0], got.get("pgbouncer", [None])[0], None, "≤ 1.0 x PgBouncer")
    got = rounds(scram, connect)
    row("CPU a connect with one query, SCRAM (us)", got["o7s"][0], got.get("pgbouncer", [None])[0], None, "≤ 1.0 x PgBouncer")

    rows, size = 250_000, 1000
    out = f"copy (select repeat('x', {size}) from generate_series(1, {rows})) to stdout"
    sql(a, "create unlogged table bulk (a text)")
    for label, text in (("COPY out", out), ("COPY in", None)):
        def stream(port, pid):
            before = cpu(pid)
            command = [f"{BIN}/psql", "-Xq", "-h", "127.0.0.1", "-p", str(port), "-U", "bench", "-d", "bench", "-c", text or "copy bulk from stdin"]
            feed = None
            if not text:
                sql(a, "truncate bulk")
                feed = open(f"{folder}/bulk")
            subprocess.run(command, check=True, stdin=feed, stdout=subprocess.DEVNULL, timeout=300)
            return [(cpu(pid) - before) / (rows * (size + 1) / 1e9)]
        if not text:
            open(f"{folder}/bulk", "w").write(("x" * size + "\n") * rows)
        got = rounds(targets, stream)
        row(f"CPU a GB, {label} (s)", *(got.get(name, [None])[0] for name in ("o7s", "pgbouncer", "floor")), "≤ 0.65 x PgBouncer")

    routes.name = "big"
    many = {f"t{n:05}": route(a) for n in range(10_000)}
    routes(**many)
    begun = time.monotonic()
    router = spawn([O7S, "router", "--routes", "big.json", "--listen", f"127.0.0.1:{big}", "--workers", "1"], big, "big")
    row("10,000 routes: start (s)", time.monotonic() - begun, target="≤ 1 s")
    row("10,000 routes: memory (MB)", memory(router.pid) / 1024, target="≤ 25 MB")
    moves, moved, calm, gaps = [], [], [], []
    for turn in range(ROUNDS):
        goal = b if turn % 2 == 0 else a
        many["t00077"] = route(goal)
        write_routes("big", many)
        bystander = Asking(big, "t00001")
        time.sleep(0.5)
        calm.append(bystander.end()[0])
        bystander, mover, inside = Asking(big, "t00001"), Asking(big, "t00077"), idle_client(big, "t00077")
        ask(inside, "begin")
        stays = ask(inside, PORT)
        begun = time.monotonic()
        os.replace(f"{folder}/big.new", f"{folder}/big.json")
        while True:
            client = idle_client(big, "t00077")
            landed = int(ask(client, PORT))
            client.close()
            if landed == goal:
                break
            if time.monotonic() - begun > 10:
                raise SystemExit("the changed route never applied")
        moves.append((time.monotonic() - begun) * 1000)
        time.sleep(0.2)
        moved.append((mover.end()[2].get(goal, math.inf) - begun) * 1000)
        if ask(inside, PORT) != stays:
            raise SystemExit("a client inside a transaction was moved")
        ask(inside, "commit")
        inside.close()
        gaps.append(bystander.end()[0])
    row("10,000 routes: a change is in force for a new connection (ms)", statistics.median(moves), target="≤ 50 ms")
    row("10,000 routes: and for an open client (ms)", statistics.median(moved), target="≤ 50 ms")
    row("longest gap another tenant's client sees meanwhile (ms)", statistics.median(gaps), target=f"calm gap ({statistics.median(calm):.1f}) + 5 ms")
    pause(big, many)


def pause(port, many):
    """Sixteen clients asking while their tenant is paused and resumed: when the last of them is answered again."""
    backs = []
    for _ in range(ROUNDS):
        askers = [Asking(port, "t00077") for _ in range(16)]
        for state in ("paused", "active"):
            many["t00077"]["state"] = state
            write_routes("big", many)
            time.sleep(0.3)
            resumed = time.monotonic()
            os.replace(f"{folder}/big.new", f"{folder}/big.json")
            time.sleep(1)
        backs.append(max(asker.end()[1] - resumed for asker in askers) * 1000)
    row("10,000 routes: last of 16 clients back after the file resumes its tenant (ms)", statistics.median(backs), target="≤ 15 ms")


folder, clusters = tempfile.mkdtemp(prefix="o7s-bench-"), []
os.chmod(folder, 0o777)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    main()
finally:
    for child in children:
        child.terminate()
    for child in children:
        child.wait(timeout=40)
    for data in clusters:
        subprocess.run(as_postgres([f"{BIN}/pg_ctl", "-D", data, "-m", "immediate", "stop"]), capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
