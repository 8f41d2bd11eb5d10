"""What the cloud side says of itself, asked over its HTTP interface and shown on one screen."""

import json
import os
import urllib.error
import urllib.request
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import typer

from tocsin_cli.spans import span

TOKEN: Final = "TOCSIN_TOKEN"  # noqa: S105 -- the variable's name
TOKEN_FILE: Final = "TOCSIN_TOKEN_FILE"  # noqa: S105 -- the variable's name
PATIENCE_S: Final = 10.0

# A health report is JSON.
Report = dict[str, Any]


def asked(address: str) -> Report:
    """Ask the cloud side at `address` (http://HOST:PORT); where nobody answers, say so in a report of that.

    Raises:
        typer.BadParameter: it is no address, or the token is missing or not taken.
    """
    if not address.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{address!r} is no address such as http://HOST:PORT", param_hint="--cloud")
    headers = {"Authorization": f"Bearer {_token()}"}
    try:
        request = urllib.request.Request(address.rstrip("/") + "/api/v1/health", headers=headers)  # noqa: S310 -- as looked at above
    except ValueError as error:
        raise typer.BadParameter(f"{address!r}: {error}", param_hint="--cloud") from error
    # No proxy stands between a plant's machines.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE_S) as answer:
            told: Report = json.loads(answer.read())
            return {"cloud": address, "running": True} | told
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                raise typer.BadParameter(f"{address} does not take the token ({error.code})") from error
            reason = _reason(error)
            if reason is None:
                return _not_running(address, f"it answers with {error.code}")
            text = {"zh": f"云端未就绪：{reason}", "en": f"The cloud side is not ready: {reason}"}
            return _without_report(address, text, running=True)
    except (OSError, ValueError) as error:
        return _not_running(address, f"nobody answers there: {getattr(error, 'reason', None) or error}")


def _not_running(address: str, reason: str) -> Report:
    text = {"zh": f"云端没有回应：{reason}", "en": f"The cloud side does not answer: {reason}"}
    return _without_report(address, text, running=False)


def _without_report(address: str, text: dict[str, str], *, running: bool) -> Report:
    trouble = {"severity": "fault", "kind": "not-ready", "subject": "", "since": None, "text": text}
    return {"cloud": address, "running": running, "watching": False, "troubles": [trouble]}


def _reason(error: urllib.error.HTTPError) -> str | None:
    """Why the cloud side makes no report now (its database is away); None where somebody else answers there."""
    try:
        return str(json.loads(error.read())["detail"]) if error.code == HTTPStatus.SERVICE_UNAVAILABLE else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _token() -> str:
    given, path = os.environ.get(TOKEN, "").strip(), os.environ.get(TOKEN_FILE)
    if not given and not path:
        raise typer.BadParameter(f"--cloud needs an API token: in {TOKEN}, or in a file that {TOKEN_FILE} names")
    try:
        token = given or Path(path or "").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{TOKEN_FILE}: {error}") from error
    if not token or not token.isascii() or not token.isprintable():
        # An error about it further down would show it.
        raise typer.BadParameter(
            f"{TOKEN if given else TOKEN_FILE} holds no API token: it is one line of plain letters"
        )
    return token


def screen(found: Report) -> list[str]:
    """Return the lines to show."""
    head = "the plant is watched" if found["watching"] else "THE PLANT IS NOT WATCHED AS IT SHOULD BE"
    lines = [f"cloud side {found['cloud']}: {head if found['running'] else 'DOES NOT RUN'}"]
    lines += [_trouble(trouble, found) for trouble in found["troubles"]]
    if "roles" not in found:
        return lines
    lines += [_role(role) for role in found["roles"]]
    lines.append(
        f"gateways: {found['gateways_online']} of {found['gateways']} there;"
        f" points: {found['points'] - found['points_dark']} of {found['points']} can be judged;"
        f" {found['readings_per_second']:.0f} readings a second"
    )
    lines += [
        f"  {source['id']}  {source['points'] - source['dark']}/{source['points']} points  ({source['name']['en']})"
        for source in found["sources"]
    ]
    messages = found["messages"]
    late = f", the oldest {messages['overdue_s']:.0f} s overdue" if messages["overdue_s"] else ""
    failed = messages["failed_last_hour"]
    lines.append(f"messages to people: {messages['waiting']} waiting{late}; failed in the last hour {failed}")
    return lines


def _trouble(trouble: Report, found: Report) -> str:
    since = "" if trouble["since"] is None else f", since {_since(trouble['since'], found['at'])}"
    return f"  {trouble['severity']}: {trouble['text']['en']}{since}"


def _role(role: Report) -> str:
    if role["behind_s"] is None:
        return f"{role['role']}: NOBODY DOES IT"
    state = "works" if role["works"] else "IS BEHIND"
    return f"{role['role']}: {state}, {role['behind_s']:.0f} s behind, {role['waiting']} messages waiting"


def _since(then: str, at: str) -> str:
    seconds = (datetime.fromisoformat(at) - datetime.fromisoformat(then)).total_seconds()
    return f"{then.replace('T', ' ')[:19]} UTC ({span(seconds)})"
