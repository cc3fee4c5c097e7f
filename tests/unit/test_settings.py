"""Invalid settings stop the start and name the variable; secrets are never shown."""

import re
from pathlib import Path

import pytest

from chat_stats.service.compute.methods import LADDER
from chat_stats.service.errors import SettingsError
from chat_stats.service.settings import PREFIX, Settings, load_settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
URL = "postgresql://user:secret-password@db.example/gateway"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def test_only_the_database_url_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"CHAT_STATS_DATABASE_URL: is missing: .*postgresql://"):
        load_settings()
    monkeypatch.setenv("CHAT_STATS_DATABASE_URL", URL)
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHAT_STATS_DATABASE_URL", "mysql://user:secret-password@db.example/gateway"),
        ("CHAT_STATS_REDIS_URL", "localhost:6379"),
        ("CHAT_STATS_QUEUE_REDIS_URL", "http://localhost"),
        ("CHAT_STATS_DATABASE_URL", "postgresql://user:secret-password@db.example:notaport/gateway"),
        ("CHAT_STATS_DATABASE_URL", "postgresql://user:secret-password#1@db.example/gateway"),
        ("CHAT_STATS_DATABASE_URL", "postgresql://user:secret-password@db.example/gateway?sslmode=bogus"),
        ("CHAT_STATS_REDIS_URL", "redis://:secret-password/1@localhost:6379"),
        ("CHAT_STATS_REDIS_URL", "redis://localhost:6379/0?foo=bar"),
        ("CHAT_STATS_DATABASE_URL", f"{URL}?sslmode=require&channel_binding=require"),
        ("CHAT_STATS_DATABASE_URL", f"{URL}?pgbouncer=true"),
        ("CHAT_STATS_REDIS_URL", "redis://:secret-password@localhost:6379/cache"),
        ("CHAT_STATS_REDIS_URL", "redis+sentinel://:secret-password@h1:26379,h2:26379"),
        ("CHAT_STATS_REDIS_URL", "redis+sentinel://:secret-password@h1:26379,/main/0"),
        ("CHAT_STATS_REDIS_URL", "redis+sentinel://:secret-password@h1:port,h2/main/0"),
        ("CHAT_STATS_REDIS_URL", "redis+sentinel://:secret-password@h1,h2/main/first"),
        ("CHAT_STATS_REDIS_URL", "redis+sentinel://:secret-password@h1,h2/main/0?foo=bar"),
        ("CHAT_STATS_QUEUE_REDIS_URL", "redis+cluster://:secret-password@h1:6379,h2:6379"),
        ("CHAT_STATS_DATABASE_URL", "postgresql://user:secret-password@h1:5432,h2:notaport/gateway"),
        ("CHAT_STATS_DATABASE_URL", f"{URL}?target_session_attrs=replica"),
        ("CHAT_STATS_READ_DATABASE_URL", "mysql://user:secret-password@h1,h2/gateway"),
        ("CHAT_STATS_MAX_STANDBY_LAG_SECONDS", "-1"),
        ("CHAT_STATS_TRUSTED_PROXIES", "127.0.0.1, nginx"),
        ("CHAT_STATS_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("CHAT_STATS_CORS_ORIGINS", "dashboard.example"),
        ("CHAT_STATS_CORS_ORIGINS", "https://dashboard.example/"),
        ("CHAT_STATS_METRICS_FOLDER", "/does/not/exist"),
        ("CHAT_STATS_PORT", "80000"),
        ("CHAT_STATS_PORT", "http"),
        ("CHAT_STATS_WINDOWS", "24h,1y"),
        ("CHAT_STATS_REFRESH_INTERVAL_SECONDS", "0.5"),
        ("CHAT_STATS_REFRESH_INTERVAL_SECONDS", "nan"),
        ("CHAT_STATS_WINDOWS", ","),
        ("CHAT_STATS_SUCCESS_STATUSES", ","),
        ("CHAT_STATS_PENDING_STATUSES", "pending,OK"),
        ("CHAT_STATS_FRESH_SECONDS", "-1"),
        ("CHAT_STATS_FRESH_SECONDS", "1e300"),
        ("CHAT_STATS_REFRESH_TIMEOUT_SECONDS", "1e9"),
        ("CHAT_STATS_STALE_SECONDS", "inf"),
        ("CHAT_STATS_QUERY_TIMEOUT_SECONDS", "0"),
        ("CHAT_STATS_LOG_LEVEL", "loud"),
        ("CHAT_STATS_CACHE_PREFIX", "a key with spaces"),
    ],
)
def test_a_wrong_value_names_its_variable_and_does_not_repeat_secrets(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("CHAT_STATS_DATABASE_URL", URL)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as caught:
        load_settings()
    assert "secret-password" not in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_a_url_parameter_of_other_clients_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_STATS_DATABASE_URL", f"{URL}?connection_limit=1&pgbouncer=true&sslmode=require")
    with pytest.raises(SettingsError, match="leave out connection_limit, pgbouncer, which"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHAT_STATS_DATABASE_URL", f" {URL}?sslmode=require&application_name=x&options=-csearch_path%3Da\n"),
        ("CHAT_STATS_REDIS_URL", "rediss://user:p%2Fw@redis.example:6380/15?ssl_cert_reqs=none\n"),
        ("CHAT_STATS_REDIS_URL", "redis://redis.example"),
        ("CHAT_STATS_REDIS_URL", "unix:///run/redis/redis.sock?db=3"),
        ("CHAT_STATS_REDIS_URL", "redis+sentinel://user:p%2Fw@h1:26379,h2,[::1]:26379/main/2"),
        ("CHAT_STATS_QUEUE_REDIS_URL", "rediss+sentinel://h1/main?ssl_ca_certs=/ca&sentinel_password=s\n"),
        ("CHAT_STATS_DATABASE_URL", "postgresql://u:p@h1:5432,h2/gateway?target_session_attrs=primary"),
        ("CHAT_STATS_READ_DATABASE_URL", "postgresql://u:p@h1:5432,[::1]:5433/gateway\n"),
        ("CHAT_STATS_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8, ::1, fd00::/8"),
        ("CHAT_STATS_TRUSTED_PROXIES", "*"),
        ("CHAT_STATS_TRUSTED_PROXIES", ""),
        ("CHAT_STATS_CORS_ORIGINS", "https://dashboard.example:8443,http://localhost:3000,null"),
        ("CHAT_STATS_CORS_ORIGINS", "*"),
    ],
)
def test_valid_values_are_accepted(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv("CHAT_STATS_DATABASE_URL", URL)
    monkeypatch.setenv(variable, value)
    load_settings()


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_STATS_DATABASE_URL", URL)
    monkeypatch.setenv("CHAT_STATS_WINDOWS", " 24h, all ,24h")
    monkeypatch.setenv("CHAT_STATS_API_KEYS", "one, two,")
    settings = load_settings()
    assert settings.windows == ("24h", "all")
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]


@pytest.mark.parametrize(
    "name",
    [
        "admin_token",
        "queue_redis_url",
        "read_database_url",
        "max_standby_lag_seconds",
        "worker_metrics_port",
        "metrics_folder",
    ],
)
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_value_means_unset(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("CHAT_STATS_DATABASE_URL", URL)
    monkeypatch.setenv(PREFIX + name.upper(), value)
    assert getattr(load_settings(), name) is None


def test_settings_come_from_a_dotenv_file_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"CHAT_STATS_DATABASE_URL={URL}\nCHAT_STATS_PORT=9001\n")
    assert load_settings().port == 9001


def test_a_dotenv_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"CHAT_STATS_DATABASE_URL=postgresql://m\xfcller@db/x\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        load_settings()


def test_a_request_waits_for_all_methods_by_default() -> None:
    settings = Settings(database_url=URL, query_timeout_seconds=4, _env_file=None)
    # The last method counts slice by slice, until `service.compute.ladder` ends the computation.
    assert settings.answer_seconds == settings.query_timeout_seconds * len(LADDER)
    assert settings.model_copy(update={"answer_timeout_seconds": 1.0}).answer_seconds == 1.0


def test_printing_settings_shows_no_secret() -> None:
    settings = Settings(database_url=URL, redis_url="redis://:hidden@r", api_keys=("key",), admin_token="tok")
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert not re.search("secret-password|hidden|'key'|\"key\"|tok'", shown)


def test_every_setting_has_a_description() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_row_on_its_page(name: str) -> None:
    assert f"| `{PREFIX}{name.upper()}` |" in PAGE.read_text()
