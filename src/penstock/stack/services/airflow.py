"""Airflow: API server, scheduler, DAG processor and triggerer, each in its own process."""

import json
from importlib.metadata import version

from penstock import remedies
from penstock.stack import probes
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import ConfigFile, Probe, Service, Step

VERSION = version("apache-airflow")
_PARALLELISM = 4


# The API server is first, because it takes longest to start. Airflow's log servers bind to every address, so they are
# disabled: the API server reads the same folder. The last item is the expected memory in MiB.
_PROCESSES: tuple[tuple[str, str, tuple[str, ...], Probe, int], ...] = (
    ("airflow-api", "Airflow", ("api-server",), probes.probe_airflow_api, 300),
    ("airflow-scheduler", "Airflow scheduler", ("scheduler", "--skip-serve-logs"), probes.probe_airflow_scheduler, 350),
    ("airflow-dags", "Airflow DAG processor", ("dag-processor",), probes.probe_airflow_dags, 250),
    ("airflow-triggerer", "Airflow triggerer", ("triggerer", "--skip-serve-logs"), probes.probe_airflow_triggerer, 250),
)


def build_services(environment: StackEnvironment) -> list[Service]:
    """Return the four processes."""
    return [_build_service(environment, *process) for process in _PROCESSES]


def _build_service(
    environment: StackEnvironment, name: str, title: str, arguments: tuple[str, ...], probe: Probe, memory_mib: int
) -> Service:
    airflow, home = (environment.python, "-m", "airflow"), environment.layout.data / "airflow"
    migrate = Step("db migrate", (*airflow, "db", "migrate"), done=home / f".migrated-{VERSION}")
    is_api_server = name == "airflow-api"
    return Service(
        name=name,
        title=title,
        version=VERSION,
        ports=("airflow_port",) if is_api_server else (),
        files=(_render_passwords(environment),) if is_api_server else (),
        folders=(home, environment.layout.logs / "airflow"),
        prepare=(migrate,),
        command=(*airflow, *arguments),
        env={**environment.child_env(), **build_env(environment)},
        directory=home,
        probe=probe,
        stop_wait_s=30,
        memory_mib=memory_mib,
        page=f"http://127.0.0.1:{environment.settings.airflow_port}" if is_api_server else "",
        hint=remedies.show_logs(name),
    )


def _render_passwords(environment: StackEnvironment) -> ConfigFile:
    settings = environment.settings
    passwords = {settings.airflow_username: settings.airflow_password.get_secret_value()}
    return ConfigFile(environment.layout.run / "airflow-passwords.json", json.dumps(passwords))


def build_env(environment: StackEnvironment) -> dict[str, str]:
    """Return Airflow's configuration as environment variables. Contains secrets."""
    settings, home = environment.settings, environment.layout.data / "airflow"
    address = f"http://127.0.0.1:{settings.airflow_port}"
    return {
        "AIRFLOW_HOME": str(home),
        **_build_core_env(environment),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(settings.airflow_port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__WORKER_TIMEOUT": "20",  # also how long a stop waits for open connections
        "AIRFLOW__API__SECRET_KEY": environment.secrets["airflow_api_secret"],
        "AIRFLOW__API_AUTH__JWT_SECRET": environment.secrets["airflow_jwt_secret"],
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(environment.layout.logs / "airflow"),
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        # A task whose scheduler was killed is retried after one minute instead of ten.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MALLOC_ARENA_MAX": "2",
        "SPT_NOENV": "1",  # else a changed process title overwrites the environment that marks the process as ours
    }


def _build_core_env(environment: StackEnvironment) -> dict[str, str]:
    settings = environment.settings
    return {
        "AIRFLOW__CORE__DAGS_FOLDER": str(environment.repository / "dags"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{settings.airflow_port}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": environment.secrets["airflow_fernet_key"],
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(_PARALLELISM),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(environment.layout.run / "airflow-passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{settings.airflow_username}:admin",
    }
