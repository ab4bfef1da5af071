#!/usr/bin/env python3
"""Measures `o7s router` beside PgBouncer and a bare byte copy: `make bench-router`, or benches/router.py O7S BYTE_COPY.

Everything runs on the loopback, on throw-away Postgres clusters, and ends with the script. Rounds are interleaved, and only
ratios of one run mean something. ROUNDS (5), QUERIES (40000), IDLE (1000,5000), TENANTS (10000) and PARTS (all of them, by the
names of the functions at the end) can be set in the environment.
"""
import glob, json, math, multiprocessing, os, platform, pwd, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time

ROUNDS, QUERIES = int(os.environ.get("ROUNDS", 5)), int(os.environ.get("QUERIES", 40000))
IDLE = [int(n) for n in os.environ.get("IDLE", "1000,5000").split(",")]
TENANTS = int(os.environ.get("TENANTS", 10_000))
O7S, COPY, FLEET = (os.path.abspath(path) for path in sys.argv[1:4])
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
    try:
        wait_for(port)
    except SystemExit:
        print(open(log.name).read()[-2000:], file=sys.stderr)
        raise
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


def cluster(name, trusted="all", more=""):
    data, port = f"{folder}/{name}", free_port()
    quiet(as_postgres([f"{BIN}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]))
    with open(f"{data}/pg_hba.conf", "w") as hba:
        hba.write(f"host all {trusted} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    with open(f"{data}/postgresql.conf", "a") as conf:
        conf.write(more)
        conf.write(f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nmax_connections=500\n"
                   "fsync=off\nsynchronous_commit=off\nshared_buffers=256MB\nautovacuum=off\nshared_preload_libraries=pg_stat_statements\n")
    quiet(as_postgres([f"{BIN}/pg_ctl", "-D", data, "-w", "-l", f"{data}/log", "start"]))
    clusters.append(data)
    sql(port, "create role bench superuser login password 'secret'", user="postgres", database="postgres")
    sql(port, "create database bench owner bench", user="postgres", database="postgres")
    quiet([f"{BIN}/pgbench", "-q", "-i", "-s", "1", "-h", "127.0.0.1", "-p", str(port), "-U", "bench", "bench"])
    return port


def sql(port, text, user="bench", database="bench"):
    command = [f"{BIN}/psql", "-XqAt", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-d", database, "-c", text]
    return quiet(command, env={**os.environ, "PGPASSWORD": "secret"}).stdout.strip()


def pgbench(port, clients, queries, *flags, user="bench", database="bench", **env):
    """p50 and p99 in microseconds."""
    with tempfile.TemporaryDirectory(dir=folder) as logs:
        command = [f"{BIN}/pgbench", "-n", "-S", "-h", "127.0.0.1", "-p", str(port), "-U", user, "-c", str(clients), "-j", "1",
                   "-t", str(max(1, queries // clients)), "-l", "--log-prefix", f"{logs}/l", *flags, database]
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


def queries(targets, label, flags, bounds, of=lambda port: {}):
    for clients in (16, 64):
        def measure(port, pid):
            before = cpu(pid)
            pgbench(port, clients, QUERIES, *flags, **of(port))
            return [(cpu(pid) - before) / QUERIES * 1e6]
        got = rounds(targets, measure)
        row(f"CPU a query, {label}, {clients} clients (us)", *(got.get(name, [None])[0] for name in ("o7s", "pgbouncer", "floor")), bounds)


def spawn_router(name, *flags, **env):
    port = free_port()
    os.environ.update(env)
    child = spawn([O7S, "router", "--listen", f"127.0.0.1:{port}", "--workers", "1", *flags], port, name)
    for key in env:
        del os.environ[key]
    return port, child.pid


def spawn_bouncer(name, databases, more=""):
    """PgBouncer with a user file that holds the verifier: with a password in plain text it derives the keys at each login."""
    port = free_port()
    open(f"{folder}/{name}.ini", "w").write(
        f"[databases]\n{databases}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\n"
        "auth_file=users.txt\npool_mode=transaction\ndefault_pool_size=20\nmax_client_conn=6000\nlog_connections=0\n"
        f"log_disconnections=0\nignore_startup_parameters=extra_float_digits\n{more}")
    child = spawn(as_postgres([BOUNCER, "-q", f"{name}.ini"]), port, name)
    return port, listener_pid(child, f"{name}.ini")


def both(targets):
    return {name: target for name, target in targets.items() if name != "floor"}


def idle(a, targets):
    for name, (port, pid) in both(targets).items():
        idle_client(port).close()
    for count in IDLE:
        got = {}
        for name, (port, pid) in both(targets).items():
            before, held = memory(pid), []
            held = [idle_client(port) for _ in range(count)]
            got[name] = (memory(pid) - before) / count
            for s in held:
                s.close()
            time.sleep(1)
        row(f"memory an idle client, {count} clients (KiB)", got["o7s"], got.get("pgbouncer"), None, "2 KiB")


def cost(a, targets):
    unpooled = {name: targets[name] for name in ("o7s", "floor")}
    queries(targets, "simple", ["-M", "simple"], "≤ 0.95 x PgBouncer, ≤ 1.15 x byte copy")
    queries(unpooled, "prepared", ["-M", "prepared"], "≤ 1.25 x byte copy")
    system_calls(targets, "simple")
    system_calls(unpooled, "prepared")


def tls(a, targets):
    queries(both(targets), "simple, TLS to the client", ["-M", "simple"], "", lambda _: {"PGSSLMODE": "require"})
    routes.name = "both_tls"
    routes(bench={**route(a), "tls": True})
    targets = {"o7s": spawn_router("both_tls", "--routes", "both_tls.json", *CERTIFICATE)}
    if BOUNCER:
        more = f"auth_type=trust\nserver_tls_sslmode=require\n{BOUNCER_CERTIFICATE}"
        targets["pgbouncer"] = spawn_bouncer("both_tls_bouncer", f"bench = host=127.0.0.1 port={a}", more)
    queries(targets, "simple, TLS on both sides", ["-M", "simple"], "", lambda _: {"PGSSLMODE": "require"})


def latency(a, targets):
    for clients in (1, 16, 64):
        got = rounds(targets, lambda port, pid: pgbench(port, clients, QUERIES // (8 if clients == 1 else 2), "-M", "simple"))
        for at, name in enumerate(("p50", "p99")):
            row(f"{name}, simple, {clients} clients (us)", *(got.get(target, [None, None])[at] for target in ("o7s", "pgbouncer", "floor")), "≤ 1.05 x PgBouncer")


def connects(a, targets):
    routes.name = "scram"
    routes(bench={"endpoint": f"127.0.0.1:{a}", "roles": {"bench": {"password": "secret"}}})
    scram = {"o7s": spawn_router("scram", "--routes", "scram.json")}
    if BOUNCER:
        scram["pgbouncer"] = spawn_bouncer("scram_bouncer", f"bench = host=127.0.0.1 port={a}", "auth_type=scram-sha-256\n")
    count = 1000
    def connect(port, pid):
        before = cpu(pid)
        pgbench(port, 4, count, "-C", "-M", "simple")
        return [(cpu(pid) - before) / count * 1e6]
    for label, targets in (("trust", both(targets)), ("SCRAM", scram)):
        got = rounds(targets, connect)
        row(f"CPU a connect with one query, {label} (us)", got["o7s"][0], got.get("pgbouncer", [None])[0], None, "≤ 1.0 x PgBouncer")


def streams(a, targets):
    rows, size = 250_000, 1000
    out = f"copy (select repeat('x', {size}) from generate_series(1, {rows})) to stdout"
    select = f"select repeat('x', {size}) from generate_series(1, {rows})"
    sql(a, "create unlogged table bulk (a text)")
    open(f"{folder}/bulk", "w").write(("x" * size + "\n") * rows)
    for label, text in (("result", select), ("COPY out", out), ("COPY in", None)):
        def stream(port, pid):
            before = cpu(pid)
            # Row by row, as psql would otherwise keep all of it.
            command = [f"{BIN}/psql", "-XqAt", "-v", "FETCH_COUNT=0", "-h", "127.0.0.1", "-p", str(port), "-U", "bench", "-d", "bench",
                       "-c", text or "copy bulk from stdin"]
            feed = None
            if not text:
                sql(a, "truncate bulk")
                feed = open(f"{folder}/bulk")
            subprocess.run(command, check=True, stdin=feed, stdout=subprocess.DEVNULL, timeout=300)
            return [(cpu(pid) - before) / (rows * (size + 1) / 1e9)]
        got = rounds(targets, stream)
        row(f"CPU a GB, {label} (s)", *(got.get(name, [None])[0] for name in ("o7s", "pgbouncer", "floor")), "≤ 0.65 x PgBouncer")


def many_routes(a, targets):
    b = cluster("b")
    routes.name = "big"
    many = {f"t{n:05}": route(a) for n in range(10_000)}
    routes(**many)
    begun = time.monotonic()
    big, pid = spawn_router("big", "--routes", "big.json")
    started, big_targets = time.monotonic() - begun, {"o7s": (big, pid)}
    bouncer_started, bouncer_memory = None, None
    if BOUNCER:
        begun = time.monotonic()
        databases = "\n".join(f"{name} = host=127.0.0.1 port={a} dbname=bench" for name in many)
        big_targets["pgbouncer"] = spawn_bouncer("big_bouncer", databases, "auth_type=trust\n")
        bouncer_started, bouncer_memory = time.monotonic() - begun, memory(big_targets["pgbouncer"][1]) / 1024
    row("10,000 routes: start (s)", started, bouncer_started, target="≤ 1 s")
    row("10,000 routes: memory (MB)", memory(pid) / 1024, bouncer_memory, target="≤ 25 MB")
    queries(big_targets, "simple, with 10,000 routes", ["-M", "simple"], "≤ 0.95 x PgBouncer", lambda _: {"database": "t00001"})
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


def fleet(tenants, *flags):
    """A router that follows a control database, with all ceilings and meters: its port, its pid, and the two servers' ports."""
    name = f"fleet{tenants}"
    control, instance = cluster(f"{name}-control"), cluster(f"{name}-instance", trusted="postgres,bench")
    address = f"postgresql://bench:secret@127.0.0.1:{control}/bench"
    key = {"O7S_MASTER_KEY": "a key for benchmarks, which guards nothing"}
    setup = ["setup", address, f"postgresql://postgres@127.0.0.1:{instance}/bench", str(tenants)]
    quiet([FLEET, *setup], env={**os.environ, **key})
    port, pid = spawn_router(name, "--public", "--usage-every", "10s", *flags, O7S_DATABASE_URL=address, **key)
    return port, pid, control, instance, key


def ceilings(a, targets):
    """Ceilings, leases and meters in a control database, against a file of routes with none of it."""
    on, pid, _, instance, key = fleet(1)
    password = quiet([FLEET, "password", "t00000"], env={**os.environ, **key}).stdout.strip()
    routes.name = "off"
    routes(t00000={"endpoint": f"127.0.0.1:{instance}", "database": "bench", "serverConnections": 20,
                   "roles": {"t00000": {"password": password}}})
    off, off_pid = spawn_router("off", "--routes", "off.json")
    for protocol in ("simple", "prepared"):
        for clients in (16, 64):
            def measure(port, pid):
                before = cpu(pid)
                pgbench(port, clients, QUERIES // 4, "-M", protocol, user="t00000", database="t00000", PGPASSWORD=password)
                return (cpu(pid) - before) / (QUERIES // 4) * 1e6
            # The machine's pace wanders more than they differ: many short pairs, and the median of their ratios.
            pairs = [(measure(on, pid), measure(off, off_pid)) for _ in range(ROUNDS * 6)]
            sides = [statistics.median(side) for side in zip(*pairs)]
            print(f"| CPU a query, {protocol}, {clients} clients: ceilings and meters on / off (us) | {sides[0]:.3g} / {sides[1]:.3g} "
                  f"| – | – | {statistics.median(pair[0] / pair[1] for pair in pairs):.3f} x off | – | ≤ 1.03 x off |", flush=True)


def active(a, targets):
    """Each of many tenants asks once a minute: the router's memory, its flushes, and what it asks of the control database."""
    seconds, settle = 120, 15
    port, pid, control, _, key = fleet(TENANTS, "--instance-connections", "40")
    counted = "select sum(calls)::bigint from pg_stat_statements where query ~ 'o7s\\.exchange'"
    sql(control, "create extension pg_stat_statements")
    load = subprocess.Popen([FLEET, "load", "127.0.0.1", str(port), str(TENANTS), str(max(1, TENANTS // 60)), str(seconds)],
                            env={**os.environ, **key}, stdout=subprocess.PIPE, text=True)
    print(load.stdout.readline().strip(), file=sys.stderr)
    time.sleep(settle)
    before, begun, calls = cpu(pid), time.monotonic(), int(sql(control, counted))
    peak = 0
    while time.monotonic() - begun < seconds - 2 * settle:
        peak = max(peak, memory(pid))
        time.sleep(0.5)
    took = time.monotonic() - begun
    calls = int(sql(control, counted)) - calls
    row(f"{TENANTS:,} active tenants: memory of the router (MB)", peak / 1024, target="≤ 150 MB")
    row(f"{TENANTS:,} active tenants: statements for leases a second", calls / took, target="≤ 1")
    said = "select {} from pg_stat_statements where query ~ '{}' order by total_exec_time desc limit 1"
    for label, query in (("a statement for leases", "o7s\\.exchange"), ("a flush of usage", "INSERT INTO o7s\\.meter_minutes")):
        for column in ("mean", "max"):
            value = sql(control, said.format(f"{column}_exec_time", query))
            row(f"{TENANTS:,} active tenants: {label}, {column} (ms)", float(value) if value else None, target="≤ 1000 ms")
    row(f"{TENANTS:,} active tenants: CPU of the router (cores)", (cpu(pid) - before) / took)
    print(load.communicate(timeout=seconds)[0].strip(), file=sys.stderr)


def route(port):
    return {"endpoint": f"127.0.0.1:{port}", "database": "bench", "serverConnections": 20, "roles": {"bench": {"auth": "trust"}}}


def main():
    global CERTIFICATE, BOUNCER, BOUNCER_CERTIFICATE
    CERTIFICATE, BOUNCER_CERTIFICATE, secure = [], "", ""
    if shutil.which("openssl"):
        quiet(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
               "/CN=localhost", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"])
        if os.getuid() == 0:
            shutil.chown(f"{folder}/key.pem", "postgres")
        CERTIFICATE = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"]
        BOUNCER_CERTIFICATE = "client_tls_sslmode=allow\nclient_tls_key_file=key.pem\nclient_tls_cert_file=cert.pem\n"
        secure = f"ssl=on\nssl_cert_file='{folder}/cert.pem'\nssl_key_file='{folder}/key.pem'\n"
    BOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    a = cluster("a", more=secure)
    routes.name = "routes"
    routes(bench=route(a))
    targets = {"o7s": spawn_router("o7s", "--routes", "routes.json", *CERTIFICATE)}
    if BOUNCER:
        verifier = sql(a, "select rolpassword from pg_authid where rolname = 'bench'")
        open(f"{folder}/users.txt", "w").write(f'"bench" "{verifier}"\n')
        targets["pgbouncer"] = spawn_bouncer("bouncer", f"bench = host=127.0.0.1 port={a}", f"auth_type=trust\n{BOUNCER_CERTIFICATE}")
    else:
        print("no pgbouncer on this machine (apt-get install pgbouncer): its columns stay empty", file=sys.stderr)
    floor = free_port()
    targets["floor"] = (floor, spawn([COPY, f"127.0.0.1:{floor}", f"127.0.0.1:{a}"], floor, "floor").pid)
    version = quiet([BOUNCER, "--version"]).stdout.split("\n")[0] if BOUNCER else "no PgBouncer"
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, {platform.system()} {platform.release()}, {version}, "
          f"PostgreSQL {sql(a, 'show server_version')}, {ROUNDS} rounds of {QUERIES} queries\n")
    print("| figure | o7s | PgBouncer | byte copy | x PgBouncer | x byte copy | must |\n|---|---|---|---|---|---|---|")
    parts = [idle, cost, tls, latency, connects, streams, many_routes, ceilings, active]
    wanted = os.environ.get("PARTS", ",".join(part.__name__ for part in parts)).split(",")
    for part in parts:
        if part.__name__ in wanted and (part is not tls or CERTIFICATE):
            part(a, targets)


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
