"""What the drivers' scripts share: where the router is, and running each check under every pooling, in clear and over TLS.

`scripts/test-drivers.sh` sets the variables. A check is a function of a `Target`; it fails by raising.
"""

import asyncio
import inspect
import os
import signal
import ssl
import sys
import traceback
from dataclasses import dataclass

SECONDS_A_CHECK = 30
CLIENTS, ROUNDS = 8, 20


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    user: str
    password: str
    database: str
    ca: str
    pooling: str
    tls: bool

    @property
    def table(self):
        """A table's name that no other run has."""
        return f"{os.path.basename(sys.argv[0]).split('.')[0]}_{self.pooling}_{'tls' if self.tls else 'clear'}"

    @property
    def url(self):
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    def context(self):
        """For drivers that take Python's TLS: certificate and name are checked."""
        return ssl.create_default_context(cafile=self.ca) if self.tls else None


def targets():
    env = os.environ
    for pooling in ("transaction", "session"):
        for tls in (False, True):
            yield Target(
                host="localhost",
                port=int(env["ROUTER_PORT"]),
                user=env["ROUTER_USER"],
                password=env["ROUTER_PASSWORD"],
                database=f"{env['ROUTER_DATABASE']}~{pooling}",
                ca=env["ROUTER_CA"],
                pooling=pooling,
                tls=tls,
            )


def same(found, wanted):
    if found != wanted:
        raise AssertionError(f"expected {wanted!r}, found {found!r}")


def run(driver, checks):
    """Ends the process: 0 when every check has passed under every pooling, else 1."""
    failed = False
    for target in targets():
        mode = f"{driver:<18} {target.pooling:<12} {'tls' if target.tls else 'clear':<6}"
        wrong = False
        for check in checks:
            try:
                one(check, target)
            except BaseException:
                failed = wrong = True
                print(f"{mode} FAILED {check.__name__}", flush=True)
                traceback.print_exc()
        if not wrong:
            print(f"{mode} ok     {', '.join(check.__name__ for check in checks)}", flush=True)
    sys.exit(1 if failed else 0)


def one(check, target):
    if inspect.iscoroutinefunction(check):
        return asyncio.run(asyncio.wait_for(check(target), SECONDS_A_CHECK))
    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS_A_CHECK)
    try:
        check(target)
    finally:
        signal.alarm(0)


def late(*_):
    raise TimeoutError(f"not done after {SECONDS_A_CHECK} s")
