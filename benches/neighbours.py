#!/usr/bin/env python3
"""What one tenant's flood does to the 19 others of its instance: `make bench-neighbours`, or benches/neighbours.py O7S.

A fleet on a local Railway: one shared instance, 20 tenants of the tier `starter` of manifests/, one of which floods; in the rows
`no ceilings` one without any does. `o7s router` follows the control database, ceilings and meters on. 19 tenants ask at a fixed
rate whatever the answers take, and each answer's time counts from the moment the question was due. The rounds without and
with the flood take turns, and each flood is another tenant's, so that none begins with the last one's debts. FLOODS (split by
`,,`), ROUNDS (5), SECONDS (4, of a round), RATE (200, queries a second of the 19 together), ALLOWED (starter,none) and SERVERS
(20, the serverConnections of the one without ceilings) can be set in the environment.

Everything runs on this machine, which the flood's own clients share: they run at nice 19, as if they were elsewhere, and those of
the 19 at nice -10 where that is allowed. Router and Postgres have no priority over one another, nor over anything else.
"""
import base64, collections, glob, hashlib, hmac, json, multiprocessing, os, random, re, selectors, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time

ROUNDS, SECONDS, RATE = int(os.environ.get("ROUNDS", 5)), float(os.environ.get("SECONDS", 4)), float(os.environ.get("RATE", 200))
CONNECTS = 10  # a second, of the 19 together: login, a query, and gone
SESSIONS = 2   # of each of the 19, kept open
QUESTION = "select word from words where id = {}"
FLOODS = {
    "short queries": (20, "select 1"),
    "long queries, asleep": (20, "select pg_sleep(60)"),
    "long queries, at work": (20, "select count(*) from generate_series(1, 1000000000)"),
    "connection storm": (100, "select 1"),
    "large results": (20, "select repeat('x', 1000) from generate_series(1, 1000000)"),
}
O7S = os.path.abspath(sys.argv[1])
KINDS, ALLOWED = os.environ.get("FLOODS", ",,".join(FLOODS)).split(",,"), os.environ.get("ALLOWED", "starter,none").split(",")
NEIGHBOURS, BOUNDLESS = [f"quiet{n}" for n in range(1, 20)], "boundless"
NOISY = [f"noisy{n}" for n in range(len(KINDS) * ROUNDS)]
MANIFESTS = """
apiVersion: ogelnates.dev/v1
kind: Fleet
metadata: { name: neighbours }
spec: { railway: { project: neighbours, environment: production, plan: pro }, defaults: { tier: starter } }
---
apiVersion: ogelnates.dev/v1
kind: DatabasePool
metadata: { name: shared }
spec:
  postgres: { image: "ghcr.io/railwayapp-templates/postgres-ssl:17" }
  region: us-west2
  volume: 20Gi
  resources: { vcpu: 2, memory: 2Gi }
  tenantsPerInstance: 50
  instances: { min: 1, max: 1 }
---
apiVersion: ogelnates.dev/v1
kind: Router
metadata: { name: edge }
spec: { replicas: 1, pooling: transaction, identify: [user, database] }
---
apiVersion: ogelnates.dev/v1
kind: Tier
metadata: { name: starter }
spec:
  limits: { connections: 20, serverConnections: 5, queriesPerMinute: 3000, storage: 2Gi, egressPerMonth: 20Gi, statementTimeout: 30s }
  overLimit: { connections: { queue: 5s }, queriesPerMinute: { slow: 2s }, egressPerMonth: reject, storage: readOnly }
  placement: { pool: shared }
"""
UNLIMITED = """---
apiVersion: ogelnates.dev/v1
kind: Tier
metadata: {{ name: none }}
spec: {{ limits: {{ connections: 100, serverConnections: {} }}, placement: {{ pool: shared }} }}
""".format(os.environ.get("SERVERS", 20))


def tenant(name, more=""):
    return f"---\napiVersion: ogelnates.dev/v1\nkind: Tenant\nmetadata: {{ name: {name} }}\nspec: {{ {more} }}\n"


class Proof:
    """SCRAM-SHA-256 of one role; what costs time is done once for each salt."""

    def __init__(self, password):
        self.password, self.keys = password.encode(), {}

    def answer(self, first, challenge):
        salt, count = (re.search(field, challenge)[1] for field in ("s=([^,]+)", "i=([0-9]+)"))
        if salt not in self.keys:
            self.keys[salt] = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(salt), int(count))
        key = hmac.digest(self.keys[salt], b"Client Key", "sha256")
        bare = f"c=biws,r={re.search('r=([^,]+)', challenge)[1]}"
        signed = hmac.digest(hashlib.sha256(key).digest(), f"{first},{challenge},{bare}".encode(), "sha256")
        return f"{bare},p={base64.b64encode(bytes(a ^ b for a, b in zip(key, signed))).decode()}".encode()


def message(tag, body):
    return tag + struct.pack("!i", len(body) + 4) + body


class Session:
    """One connection that never waits: `done(session, error)` is called when it is ready, and after each answer."""

    received = 0  # bytes, of all of this process

    def __init__(self, loop, port, name, proof, done):
        self.loop, self.name, self.proof, self.done = loop, name, proof, done
        self.got, self.first, self.open, self.due = b"", f"n=,r={random.getrandbits(90):x}", False, 0.0
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", port))
        loop.register(self.socket, selectors.EVENT_WRITE, self)

    def ask(self, text):
        try:
            self.socket.send(message(b"Q", text.encode() + b"\0"))
        except OSError:
            self.fail("gone")

    def fail(self, why):
        self.close()
        self.done(self, why)

    def close(self):
        if self.socket.fileno() >= 0:
            self.loop.unregister(self.socket)
            self.socket.close()

    def event(self, mask, buffer):
        try:
            if mask & selectors.EVENT_WRITE:
                body = struct.pack("!i", 196608) + f"user\0{self.name}\0database\0{self.name}\0\0".encode()
                self.socket.send(struct.pack("!i", len(body) + 4) + body)
                return self.loop.modify(self.socket, selectors.EVENT_READ, self)
            n = self.socket.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError:
            return self.fail("gone")
        if n == 0:
            return self.fail("gone")
        Session.received += n
        if self.open:
            # Of an answer only its end is looked at, and the kind of its first message.
            if not self.got:
                self.got = bytes(buffer[:1])
            self.tail = (self.tail + bytes(buffer[max(0, n - 6):n]))[-6:]
            if self.tail == b"Z\0\0\0\5I":
                kind, self.got, self.tail = self.got, b"", b""
                self.done(self, "refused" if kind == b"E" else None)
            return
        self.got += bytes(buffer[:n])
        while len(self.got) >= 5 and len(self.got) > struct.unpack("!i", self.got[1:5])[0]:
            size = 1 + struct.unpack("!i", self.got[1:5])[0]
            tag, body, self.got = self.got[:1], self.got[5:size], self.got[size:]
            if tag == b"R" and body[:4] == b"\0\0\0\x0a":
                first = f"n,,{self.first}".encode()
                self.socket.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
            elif tag == b"R" and body[:4] == b"\0\0\0\x0b":
                self.socket.send(message(b"p", self.proof.answer(self.first, body[4:].decode())))
            elif tag == b"E":
                return self.fail(body.decode(errors="replace"))
            elif tag == b"Z":
                self.open, self.tail = True, b""
                return self.done(self, None)


def turn(loop, buffer, patience):
    for key, mask in loop.select(max(0, patience)):
        # One that was closed in this turn has no event any more.
        if key.fileobj.fileno() >= 0:
            key.data.event(mask, buffer)


def nice(by):
    try:
        os.nice(by)
    except OSError:
        print("not allowed to raise priorities: the clients compete with what they measure", file=sys.stderr)


def quiet_ones(port, proofs, seconds, seed, told, start):
    """The 19: `seconds` of questions, their times from when they were due, in ms; and those of new connections."""
    nice(-10)
    # select() takes microseconds, epoll milliseconds.
    loop, buffer, chance = selectors.SelectSelector(), bytearray(65536), random.Random(seed)
    free, waiting = {name: [] for name in NEIGHBOURS}, {name: collections.deque() for name in NEIGHBOURS}
    answers, connects, failed = [], [], collections.Counter()

    def answered(session, error):
        now = time.monotonic()
        if error:
            failed[error] += 1
        elif session.due:
            answers.append((now - session.due) * 1000)
        if error not in (None, "refused"):
            return
        if waiting[session.name]:
            session.due = waiting[session.name].popleft()
            session.ask(QUESTION.format(chance.randint(1, 1000)))
        else:
            session.due = 0.0
            free[session.name].append(session)

    def connected(session, error):
        if error:
            failed[error] += 1
        elif not session.asked:
            session.asked = True
            return session.ask(QUESTION.format(1))
        else:
            connects.append((time.monotonic() - session.due) * 1000)
        session.close()

    for name in NEIGHBOURS * SESSIONS:
        Session(loop, port, name, proofs[name], answered)
    until = time.monotonic() + 20
    while sum(map(len, free.values())) < len(NEIGHBOURS) * SESSIONS and time.monotonic() < until:
        turn(loop, buffer, 0.1)
    told.send(None)
    start.wait()
    begun = time.monotonic()
    next_ask, next_connect = begun, begun
    while True:
        now = time.monotonic()
        if now - begun > seconds:
            if not any(waiting.values()) and sum(map(len, free.values())) == len(NEIGHBOURS) * SESSIONS or now - begun > seconds + 10:
                break
            next_ask = next_connect = now + 0.1
        while next_ask <= now:
            name = chance.choice(NEIGHBOURS)
            if free[name]:
                session = free[name].pop()
                session.due = next_ask
                session.ask(QUESTION.format(chance.randint(1, 1000)))
            else:
                waiting[name].append(next_ask)
            next_ask += chance.expovariate(RATE)
        while next_connect <= now:
            name = chance.choice(NEIGHBOURS)
            session = Session(loop, port, name, proofs[name], connected)
            session.due, session.asked = next_connect, False
            next_connect += chance.expovariate(CONNECTS)
        turn(loop, buffer, min(next_ask, next_connect) - time.monotonic())
    # What is not answered by now counts with the time it has taken so far.
    for due in (due for queue in waiting.values() for due in queue):
        answers.append((time.monotonic() - due) * 1000)
    told.send((answers, connects, failed))


def flood(kind, port, name, proof, told, stop):
    """All its tier lets it send; at nice 19. Answers how much of what it was given a second."""
    nice(19)
    loop, buffer, counted = selectors.DefaultSelector(), bytearray(1 << 20), collections.Counter()
    sessions, text = FLOODS[kind]
    storm = kind == "connection storm"
    again = []

    def done(session, error):
        counted["refused" if error else "answers" if session.got == b"" and session.asked else "logins"] += 1
        if error not in (None, "refused") or storm and session.asked:
            session.close()
            again.append(time.monotonic() + (0 if storm else 0.1))
            return
        session.asked = True
        session.ask(text)

    def begin():
        Session(loop, port, name, proof, done).asked = False

    begun = time.monotonic()
    for _ in range(sessions):
        begin()
    while not stop.is_set():
        turn(loop, buffer, 0.05)
        due = [at for at in again if at <= time.monotonic()]
        again[:] = again[len(due):]
        for _ in due:
            begin()
    counted["MB"] = Session.received // 1_000_000
    told.send({what: n / (time.monotonic() - begun) for what, n in counted.items()})


class Child:
    def __init__(self, work, *arguments):
        self.pipe, told = multiprocessing.Pipe(duplex=False)
        self.flag = multiprocessing.Event()
        self.process = multiprocessing.Process(target=work, args=(*arguments, told, self.flag), daemon=True)
        self.process.start()
        told.close()

    def end(self):
        self.flag.set()
        found = self.pipe.recv()
        self.process.join()
        return found


def machine():
    """Busy and all time of the machine's cores, in ticks; what the host gave to others counts as neither."""
    user, low, system, idle, disk, *interrupts = map(int, open("/proc/stat").readline().split()[1:8])
    busy = user + low + system + sum(interrupts)
    return busy, busy + idle + disk


def spent(pid):
    """Seconds of CPU."""
    return sum(int(open(path).read().split()[0]) for path in glob.glob(f"/proc/{pid}/task/*/schedstat")) / 1e9


def p95(times):
    return sorted(times)[len(times) * 95 // 100] if times else float("nan")


def one_round(port, proofs, router, kind, name, seed):
    """p95 of the 19's queries and connects (ms), busy share of the machine, the router's CPU (cores), the flood's counts."""
    flooding = kind and Child(flood, kind, port, name, proofs[name])
    asking = Child(quiet_ones, port, proofs, SECONDS, seed)
    asking.pipe.recv()
    time.sleep(0.5)
    (busy, all_), cpu, begun = machine(), spent(router.pid), time.monotonic()
    asking.flag.set()
    time.sleep(SECONDS)
    (busy_then, all_then), cpu = machine(), (spent(router.pid) - cpu) / (time.monotonic() - begun)
    answers, connects, failed = asking.end()
    counts = flooding.end() if kind else {}
    if failed:
        print(f"of the neighbours' questions failed: {dict(failed)}", file=sys.stderr)
    return p95(answers), p95(connects), (busy_then - busy) / (all_then - all_), cpu, counts


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def calm_again():
    """Until what the last flood left running has ended."""
    for _ in range(40):
        busy, all_ = machine()
        time.sleep(0.25)
        busy_then, all_then = machine()
        if busy_then - busy < 0.15 * (all_then - all_):
            return
    print("the machine does not come to rest: something else runs beside this", file=sys.stderr)


def measure(port, proofs, router, kind, names):
    calm, loud = [], []
    for n in range(ROUNDS):
        order = [(calm, None), (loud, kind)]
        for rounds, what in order if n % 2 == 0 else order[::-1]:
            calm_again()
            rounds.append(one_round(port, proofs, router, what, names[n % len(names)], n))
    columns = [[list(column) for column in zip(*rounds)] for rounds in (calm, loud)]
    (before, connect, cpu, _, _), (after, connect_then, cpu_then, router_then, counts) = columns
    ratio = statistics.median(after) / statistics.median(before)
    ratios = [b / a for a, b in zip(before, after)]
    count = sum((collections.Counter(count) for count in counts), collections.Counter())
    sent = ", ".join(f"{n / ROUNDS:.0f} {what}" for what, n in count.items())
    print(f"| {kind}{'' if names != [BOUNDLESS] else ', no ceilings'} | {spread(before)} | {spread(after)} | **{ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) | "
          f"{statistics.median(connect):.1f} / {statistics.median(connect_then):.1f} | {statistics.median(cpu):.0%} / {statistics.median(cpu_then):.0%} | "
          f"{statistics.median(router_then):.2f} | {sent} |", flush=True)


def o7s(*command):
    done = subprocess.run([O7S, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"o7s {' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def password(name):
    return json.loads(o7s("tenant", "url", name, "-f", "manifests", "--format", "json"))["password"]


def prepare(port, proofs):
    """Each tenant's table, by way of the router."""
    loop, left = selectors.DefaultSelector(), set(NEIGHBOURS)
    texts = ["create table words (id int primary key, word text)", "insert into words select n, md5(n::text) from generate_series(1, 1000) n",
             "vacuum analyze words"]

    def done(session, error):
        if error:
            raise SystemExit(f"{session.name}: {error}")
        if session.texts:
            return session.ask(session.texts.pop(0))
        left.discard(session.name)
        session.close()
    for name in NEIGHBOURS:
        Session(loop, port, name, proofs[name], done).texts = list(texts)
    until = time.monotonic() + 60
    while left and time.monotonic() < until:
        turn(loop, bytearray(65536), 0.5)
    if left:
        raise SystemExit(f"no answer to {left}")


def main():
    os.mkdir(f"{folder}/manifests")
    with open(f"{folder}/manifests/fleet.yaml", "w") as file:
        file.write(MANIFESTS + UNLIMITED + "".join(tenant(name) for name in NEIGHBOURS))
        # A month's egress would be over within a minute.
        file.write("".join(tenant(name, "limits: { egressPerMonth: 100000Gi }") for name in NOISY) + tenant(BOUNDLESS, "tier: none"))
    exports = o7s("local", "up", "--detach", "--data", f"{folder}/railway")
    environment.update(re.findall(r"^export (\w+)='?([^'\n]*)'?$", exports, re.M))
    exports = o7s("bootstrap", "-f", "manifests", "--yes")
    environment.update(re.findall(r"^export (\w+)='?([^'\n]*)'?$", exports, re.M))
    o7s("reconcile", "-f", "manifests", "--once", "--yes")
    proofs = {name: Proof(password(name)) for name in [*NEIGHBOURS, *NOISY, BOUNDLESS]}
    log = open(f"{folder}/router.log", "w")
    command = [O7S, "router", "--public", "--listen", "127.0.0.1:0", "--drain", "1s", *os.environ.get("ROUTER", "").split()]
    router = subprocess.Popen(command, stderr=log, stdout=log, cwd=folder, env=environment)
    children.append(router)
    for _ in range(400):
        found = re.search(r"serving on 127\.0\.0\.1:(\d+)", open(log.name).read())
        if found:
            break
        time.sleep(0.05)
    else:
        raise SystemExit(f"the router does not serve: {open(log.name).read()}")
    port = int(found[1])
    prepare(port, proofs)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {RATE:.0f} queries and {CONNECTS} connects a second of {len(NEIGHBOURS)} tenants, "
          f"{ROUNDS} rounds of {SECONDS:.0f} s of each\n")
    print("| flood | p95 of the 19 without (ms) | with (ms) | ratio | a connect's p95 (ms) | CPU of the machine | of the router (cores) | the flood, a second |\n|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        if "starter" in ALLOWED:
            measure(port, proofs, router, kind, [NOISY.pop() for _ in range(ROUNDS)])
        if "none" in ALLOWED:
            measure(port, proofs, router, kind, [BOUNDLESS])


folder, children, environment = tempfile.mkdtemp(prefix="o7s-neighbours-"), [], {**os.environ, "NO_COLOR": "1"}
os.chmod(folder, 0o755)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    main()
finally:
    for child in children:
        child.terminate()
        child.wait(timeout=40)
    subprocess.run([O7S, "local", "down", "--data", f"{folder}/railway"], cwd=folder, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
