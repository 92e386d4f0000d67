"""
What the command line takes: commands, their arguments, and which module runs each.

A command's module is imported when it runs, so that `--help` takes milliseconds and no command pays for
another's imports.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from agent import __version__
from agent.core.errors import shown

EXIT_USAGE = 64
#: Processes of a replay; each takes the memory of an agent.
WORKERS_MAX = 256

CONFIG_VARIABLE = "TAILRACE_CONFIG"
CONFIG_PATH = "/etc/tailrace/tailrace.yaml"

#: Where the function `main` of a command is.
MODULES = {
    "run": "agent.cli.run",
    "puller": "agent.cli.run",
    "replay": "agent.cli.replay",
    "seal": "agent.cli.seal",
    "credentials": "agent.cli.credentials",
    "validate": "agent.cli.validate",
    "schema": "agent.cli.schema",
    "ddl": "agent.cli.ddl",
    "explain": "agent.cli.explain",
    "test": "agent.cli.cases",
    "status": "agent.cli.status",
    "losses": "agent.cli.losses",
}

_MAIN_EPILOG = """\
examples:
  tailrace validate -c tailrace.yaml            check a configuration, start nothing
  tailrace run -c tailrace.yaml                 follow and deliver until SIGTERM
  tailrace replay -c tailrace.yaml old/*.log    deliver files that are complete, then report
  tailrace status -c tailrace.yaml              where every route stands
  tailrace losses -c tailrace.yaml              what will never be delivered, and why

`tailrace COMMAND --help` says more.  Exit codes: 0 done, 64 usage, 75 try again later, 78 configuration.
"""


class _Parser(argparse.ArgumentParser):
    """
    Keeps examples as they are written, and exits with the code of sysexits.
    """

    def __init__(self, **options: object) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """
    Return the parser of all commands.
    """
    top = _Parser(
        prog="tailrace",
        description="Delivers container logs to CloudWatch Logs and to Parquet on S3, and loses none.",
        epilog=_MAIN_EPILOG,
    )
    top.add_argument("--version", action="version", version=f"tailrace {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_delivery(commands)
    _add_configuration(commands)
    _add_trials(commands)
    _add_inspection(commands)
    _add_state(commands)
    return top


def _add_delivery(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = _command(
        commands,
        "run",
        "follow the configured sources and deliver until a signal",
        "On SIGTERM or SIGINT it stops reading, delivers what was read within drain_timeout_s, commits and\n"
        "exits 0; a second signal ends it at once.  What was not delivered is read again at the next start.",
        "tailrace run -c /etc/tailrace/tailrace.yaml",
    )
    _add_config(run)
    puller = _command(
        commands,
        "puller",
        "fetch the logs of EKS control planes and deliver them until a signal",
        "Runs the sources of type eks_control_plane in a configuration, and the routes that read them; nothing else\n"
        "of it: no file of the node, no metadata of pods.  For a Deployment instead of an elected agent.",
        "tailrace puller -c /etc/tailrace/tailrace.yaml",
        function="puller",
    )
    _add_config(puller)
    replay = _command(
        commands,
        "replay",
        "read given files to their end through the configured routes, then report",
        "Reads as fast as the sinks take it, from the beginning of every file.  Touches no cursor of an agent:\n"
        "its own state is thrown away, or kept in --state so that an interrupted replay can go on.",
        "tailrace replay -c tailrace.yaml /var/log/old/*.log",
        "tailrace replay -c tailrace.yaml --report report.json --state /tmp/replay big.log",
        "tailrace replay -c tailrace.yaml --workers 8 --state /var/tmp/replay /archive",
        "tailrace replay -c tailrace.yaml --route cloudwatch /var/lib/tailrace/dead-letters/cloudwatch",
    )
    _add_config(replay)
    replay.add_argument(
        "paths", nargs="+", metavar="PATH", help="file to read, or a directory: its **/*.log"
    )
    replay.add_argument("--report", metavar="FILE.json", help="write the report as JSON")
    replay.add_argument(
        "--route",
        action="append",
        default=[],
        metavar="ROUTE",
        help="only through this route; may be given again, not with --workers",
    )
    replay.add_argument("--state", metavar="DIR", help="keep cursors in DIR and resume from them")
    replay.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help="share the files among N processes, whole Logs each (default 1; one a core is useful)",
    )
    # The agent runs these itself; they are not for people, so they have no line in --help.
    worker = commands.add_parser("replay-share", prog="tailrace replay-share")
    worker.add_argument("spec", metavar="SPEC.json")
    worker.set_defaults(module=MODULES["replay"], function="share")
    seal = commands.add_parser("seal", prog="tailrace seal")
    seal.add_argument("specs", metavar="SPEC.json", nargs="+")
    seal.set_defaults(module=MODULES["seal"], function="main")
    credentials = commands.add_parser("credentials", prog="tailrace credentials")
    credentials.set_defaults(module=MODULES["credentials"], function="main")


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= WORKERS_MAX:
        raise argparse.ArgumentTypeError(
            f"got {shown(text)}, expected a number of processes from 1 to {WORKERS_MAX}"
        )
    return int(text)


def _add_configuration(commands: argparse._SubParsersAction[_Parser]) -> None:
    validate = _command(
        commands,
        "validate",
        "check a configuration and print what was understood",
        "Prints one line per problem and exits 78, or a table of the routes and exits 0.  Starts nothing and\n"
        "connects to nothing.",
        "tailrace validate -c tailrace.yaml",
    )
    _add_config(validate)
    schema = _command(
        commands,
        "schema",
        "print the JSON Schema of the configuration, for editors",
        "With a YAML language server, put `# yaml-language-server: $schema=tailrace.schema.json` into the\n"
        "configuration's first line.",
        "tailrace schema > tailrace.schema.json",
        "tailrace schema --markdown > reference.md",
    )
    schema.add_argument(
        "--markdown", action="store_true", help="print a reference of all keys instead"
    )
    ddl = _command(
        commands,
        "ddl",
        "print the Athena table for a Parquet route",
        "CREATE EXTERNAL TABLE with partition projection: no crawler, no MSCK REPAIR TABLE.",
        "tailrace ddl -c tailrace.yaml archive",
    )
    _add_config(ddl)
    ddl.add_argument("route", metavar="ROUTE", help="name of a route with a Parquet sink")
    ddl.add_argument(
        "--table",
        metavar="[DATABASE.]TABLE",
        help="name of the table; by default that of the route",
    )
    ddl.add_argument(
        "--since",
        metavar="YYYY-MM-DD",
        default="2026-01-01",
        help="first day that a query without a condition on dt looks at (default %(default)s)",
    )
    ddl.add_argument(
        "--prefix",
        metavar="PREFIX",
        default="",
        help="the prefix to make the table for, where the route's has variables",
    )


def _add_trials(commands: argparse._SubParsersAction[_Parser]) -> None:
    explain = _command(
        commands,
        "explain",
        "show, stage by stage, what happens to a line",
        "Reads nothing and sends nothing.  The line may be bare, or as the container runtime writes it.",
        'tailrace explain -c tailrace.yaml --line \'{"level":"info"}\'',
        "tailrace explain -c tailrace.yaml --route alerts --path /var/log/pods/a_b_c/d/0.log --line '…'",
    )
    _add_config(explain)
    explain.add_argument(
        "--line", metavar="LINE", action="append", required=True, help="line; may be given again"
    )
    explain.add_argument("--path", metavar="PATH", help="file that it is of")
    explain.add_argument("--route", metavar="ROUTE", help="only this route")
    cases = _command(
        commands,
        "test",
        "run the cases that the configuration has for its routes",
        "Each of `tests` has a route, lines, and the messages that are expected of them.  Exits 1 if one fails.",
        "tailrace test -c tailrace.yaml",
    )
    _add_config(cases)


def _add_inspection(commands: argparse._SubParsersAction[_Parser]) -> None:
    status = _command(
        commands,
        "status",
        "show cursors, lag, staged bytes and losses",
        "Reads the state directory; the agent may run meanwhile.",
        "tailrace status -c tailrace.yaml",
        "tailrace status --state-dir /var/lib/tailrace --json",
    )
    _add_state_dir(status)
    status.add_argument("--json", action="store_true", help="print JSON")
    status.add_argument(
        "--logs",
        type=_count,
        default=20,
        metavar="N",
        help="Logs to show, furthest behind first (default 20, 0: all)",
    )
    losses = _command(
        commands,
        "losses",
        "list what will never be delivered, and why",
        "Every byte range that could not be delivered: file, range, reason.  Ranges that touch are one line.  At most\n"
        "10,000 records a route are kept; older ones are summed by reason.",
        "tailrace losses -c tailrace.yaml --route cloudwatch --since 2h",
        "tailrace losses -c tailrace.yaml --reason held_too_long --limit 0 --json",
    )
    _add_state_dir(losses)
    losses.add_argument("--route", metavar="ROUTE", help="only this route's")
    losses.add_argument("--reason", metavar="REASON", help="only those with this reason")
    losses.add_argument(
        "--since", metavar="AGE|TIME", help="only those recorded since: 90min, 2h, 7d, or a time"
    )
    losses.add_argument(
        "--limit",
        type=_count,
        default=100,
        metavar="N",
        help="lines to show, newest last; the rest is summed by reason (default 100, 0: all)",
    )
    losses.add_argument("--json", action="store_true", help="print JSON")


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number, 0 or more")
    return int(text)


def _add_state(commands: argparse._SubParsersAction[_Parser]) -> None:
    state = commands.add_parser(
        "state",
        help="forget or move a route's cursors, while no agent runs",
        description="Change what the state directory knows about a route.  The agent must be stopped.",
    )
    actions = state.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    reset = _command(
        actions,
        "reset",
        "forget a route's cursors: it starts anew",
        "The route starts as if for the first time, so with `start: beginning` lines are delivered again.",
        "tailrace state reset -c tailrace.yaml cloudwatch",
        module="agent.cli.state",
        function="reset",
    )
    _add_state_dir(reset)
    reset.add_argument("route", metavar="ROUTE")
    reset.add_argument(
        "--discard-staged",
        action="store_true",
        help="also discard rows that are staged and not uploaded yet",
    )
    rename = _command(
        actions,
        "rename",
        "let a route, or a changed sink, go on from the cursors of another name",
        "The next start of NEW goes on where OLD stands, with whatever sink NEW has.  OLD and NEW may be the\n"
        "same: then the route's changed sink goes on from its cursors.",
        "tailrace state rename -c tailrace.yaml cloudwatch applications",
        "tailrace state rename -c tailrace.yaml cloudwatch cloudwatch",
        module="agent.cli.state",
        function="rename",
    )
    _add_state_dir(rename)
    rename.add_argument("old", metavar="OLD")
    rename.add_argument("new", metavar="NEW")


def _command(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    summary: str,
    description: str,
    *examples: str,
    module: str = "",
    function: str = "main",
) -> _Parser:
    made: _Parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}",
        epilog="example:\n" + "\n".join(f"  {example}" for example in examples),
    )
    made.set_defaults(module=module or MODULES[name], function=function)
    return made


def _add_config(command: _Parser) -> None:
    command.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=os.environ.get(CONFIG_VARIABLE) or CONFIG_PATH,
        help=f"configuration (default: ${CONFIG_VARIABLE}, else {CONFIG_PATH})",
    )


def _add_state_dir(command: _Parser) -> None:
    _add_config(command)
    command.add_argument(
        "--state-dir", metavar="DIR", help="instead of state_dir of the configuration"
    )
