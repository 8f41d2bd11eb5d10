"""Puts the dashboards, their folders and their data sources into a Grafana over its HTTP API."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from grafana_client import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException, GrafanaUnauthorizedError
from requests.exceptions import RequestException
from ruamel.yaml import YAML

SHIPPED: Final = Path(str(files("tocsin_cloud") / "dashboards"))
TIMEOUT_S: Final = 10.0
NOT_FOUND: Final = 404
FORBIDDEN: Final = 403
CONFLICTS: Final = (409, 412)
CREATED: Final = "created"
UPDATED: Final = "updated"
UNCHANGED: Final = "unchanged"
LEFT_ALONE: Final = "left alone"
VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
# What Grafana itself puts into a dashboard that it keeps.
ITS_OWN: Final = ("id", "version")


class GrafanaError(RuntimeError):
    """Grafana cannot be reached, or refuses; the message says what to do."""


class Put(NamedTuple):
    """What became of one thing: `what` it is, its uid, `outcome`, and why it was left alone."""

    what: str
    uid: str
    outcome: str
    reason: str = ""


class Grafana:
    """One Grafana, asked as the service account of a token; every `put` may be called again and again."""

    def __init__(self, url: str, token: str) -> None:
        """Ask at `url`; nothing is sent yet.

        Raises:
            ValueError: `url` is no HTTP address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError(f"{url!r} is no address such as https://HOST[:PORT][/PATH], without a user")
        prefix = parts.path.strip("/")
        self._url = url
        self._api = GrafanaApi(
            token,
            host=parts.hostname,
            port=parts.port,
            url_path_prefix=f"{prefix}/" if prefix else "",
            protocol=parts.scheme,
            timeout=TIMEOUT_S,
        )
        self._api.client.s.trust_env = False

    def put_folder(self, uid: str, title: str) -> Put:
        """Make the folder, or give it its title again.

        Raises:
            GrafanaError: Grafana is away or refuses.
        """
        with self._asking(f"folder {uid}"):
            there = _found(lambda: self._api.folder.get_folder(uid))
            if there is None:
                self._api.folder.create_folder(title, uid)
                return Put("folder", uid, CREATED)
            if there["title"] == title:
                return Put("folder", uid, UNCHANGED)
            self._api.folder.update_folder(uid, title, there.get("version"))
            return Put("folder", uid, UPDATED)

    def put_source(self, source: Mapping[str, Any]) -> Put:
        """Make the data source, or bring it up to date; its password is sent again each time, for nobody can read it.

        Raises:
            GrafanaError: Grafana is away or refuses.
        """
        uid = str(source["uid"])
        with self._asking(f"data source {uid}"):
            there = _found(lambda: self._api.datasource.get_datasource_by_uid(uid))
            if there is None:
                self._api.datasource.create_datasource(dict(source))
                return Put("data source", uid, CREATED)
            shown = {name: value for name, value in source.items() if name != "secureJsonData"}
            if "secureJsonData" not in source and _is_in(shown, there):
                return Put("data source", uid, UNCHANGED)
            self._api.datasource.update_datasource_by_uid(uid, dict(source))
            return Put("data source", uid, UPDATED)

    def put_dashboard(self, folder: str, dashboard: Mapping[str, Any], message: str) -> Put:
        """Save the dashboard into the folder, unless it stands there as it is.

        Raises:
            GrafanaError: Grafana is away or refuses; also where somebody saved another version meanwhile.
        """
        uid = str(dashboard["uid"])
        with self._asking(f"dashboard {uid}"):
            there = _found(lambda: self._api.dashboard.get_dashboard(uid))
            version, outcome = 0, CREATED
            if there is not None:
                kept = {name: value for name, value in there["dashboard"].items() if name not in ITS_OWN}
                if kept == dashboard and there["meta"].get("folderUid") == folder:
                    return Put("dashboard", uid, UNCHANGED)
                version, outcome = there["dashboard"]["version"], UPDATED
            body = {**dashboard, "id": None, "version": version}
            self._api.dashboard.update_dashboard(
                {"dashboard": body, "folderUid": folder, "message": message, "overwrite": False}
            )
            return Put("dashboard", uid, outcome)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except GrafanaUnauthorizedError as error:
            raise GrafanaError(f"{self._url} does not take the token: it is wrong, disabled or has expired") from error
        except GrafanaException as error:
            raise GrafanaError(f"{what}: {_told(error)}") from error
        except RequestException as error:
            raise GrafanaError(f"{self._url} cannot be reached: {_reason(error)}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise GrafanaError(f"{self._url} does not answer as a Grafana does ({what})") from error


def push(grafana: Grafana, folder: Path, environment: Mapping[str, str], message: str) -> Iterator[Put]:
    """Put all that `folder` (SHIPPED, or one like it) provisions, one after the other: sources, folders, dashboards.

    A data source whose addresses are not in `environment` is left alone.

    Raises:
        GrafanaError: Grafana is away or refuses.
        OSError, ValueError: a file is missing or broken.
    """
    for source in _loaded(folder / "provisioning" / "datasources" / "tocsin.yaml")["datasources"]:
        missing = sorted({name for name in VARIABLE.findall(json.dumps(source)) if not environment.get(name)})
        if missing:
            yield Put("data source", source["uid"], LEFT_ALONE, f"{', '.join(missing)} not set")
        else:
            yield grafana.put_source(_filled(source, environment))
    for provider in _loaded(folder / "provisioning" / "dashboards" / "tocsin.yaml")["providers"]:
        uid = provider["folderUid"]
        yield grafana.put_folder(uid, provider["folder"])
        for path in sorted((folder / Path(provider["options"]["path"]).name).glob("*.json")):
            yield grafana.put_dashboard(uid, json.loads(path.read_text(encoding="utf-8")), message)


def _loaded(path: Path) -> Any:  # noqa: ANN401 -- whatever YAML holds
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def _filled(value: Any, environment: Mapping[str, str]) -> Any:  # noqa: ANN401 -- whatever YAML holds
    if isinstance(value, dict):
        return {name: _filled(each, environment) for name, each in value.items()}
    if isinstance(value, str):
        return VARIABLE.sub(lambda match: environment[match[1]], value)
    return value


def _found(ask: Callable[[], Any]) -> Any:  # noqa: ANN401 -- whatever JSON Grafana answers
    try:
        return ask()
    except GrafanaClientError as error:
        if error.status_code == NOT_FOUND:
            return None
        raise


def _is_in(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    return all(
        _is_in(value, there.get(name) or {}) if isinstance(value, Mapping) else there.get(name) == value
        for name, value in wanted.items()
    )


def _told(error: GrafanaException) -> str:
    response = error.response
    text = response.get("message") if isinstance(response, dict) else str(response)
    if error.status_code in CONFLICTS:
        return f"conflict: {text}; somebody saved it meanwhile, or the name is taken by another"
    if error.status_code == FORBIDDEN:
        return f"the token may not: {text}; its service account needs the role Admin"
    return f"Grafana answered {error.status_code}: {text}"


def _reason(error: RequestException) -> str:
    inner = getattr(error.args[0], "reason", None) if error.args else None
    return str(inner or error).split(": ", 1)[-1]
