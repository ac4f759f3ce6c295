"""What a program may import, and from where."""

import ast
import pickle
from importlib import import_module
from pathlib import Path
from uuid import UUID

import pytest

import pgflow_events
from pgflow_events import EmbeddedServer, RunFailed, Settings, SettingsError, connect

# Where the public names were before they had rooms: programs import them from there.
OLD_PLACES = {
    "pgflow_events.client": ["Client", "connect"],
    "pgflow_events.embedded": ["EmbeddedServer"],
    "pgflow_events.errors": ["PgflowError", "RunFailed"],
    "pgflow_events.flow": ["Context", "Flow", "Node", "Step"],
    "pgflow_events.migrations": ["migrate", "migrate_now"],
    "pgflow_events.runs": ["Run"],
    "pgflow_events.settings": ["Settings"],
    "pgflow_events.telemetry": ["TaskEvent", "log_task"],
    "pgflow_events.worker": ["Worker"],
    "blobstore.keys": ["KeyRing", "KeyRingError"],
    "blobstore.objects": ["ObjectStore"],
}


@pytest.mark.parametrize("name", pgflow_events.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(pgflow_events, name)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Wroker'"):
        _ = pgflow_events.Wroker


@pytest.mark.parametrize("place", OLD_PLACES)
def test_the_old_places_of_public_names_go_on_working(place):
    for name in OLD_PLACES[place]:
        assert getattr(import_module(place), name) is getattr(pgflow_events, name)


def test_every_error_that_reading_a_blob_raises_is_a_public_name():
    errors = ast.parse(Path(import_module("blobstore.errors").__file__).read_text())
    classes = {node.name for node in errors.body if isinstance(node, ast.ClassDef)}
    assert classes <= {*pgflow_events.__all__}


def test_the_failure_of_a_run_says_in_fields_what_its_text_says():
    failed = RunFailed("it failed", UUID(int=1), {"fetch": "ValueError: x", "parse": "KeyError"})
    for error in (failed, pickle.loads(pickle.dumps(failed))):
        assert str(error) == "it failed"
        assert (error.run_id, error.step) == (UUID(int=1), "fetch")
        assert error.errors == {"fetch": "ValueError: x", "parse": "KeyError"}


def test_an_embedded_server_takes_its_timeout_by_the_old_name_too():
    assert EmbeddedServer(patience=7)._timeout == EmbeddedServer(timeout=7)._timeout == 7


def test_a_client_takes_the_settings_of_its_workers_and_checks_what_it_is_given():
    connect(settings=Settings(slots=3, value_cap=5))
    with pytest.raises(SettingsError, match="connections must be more than 0"):
        connect(connections=0)
    with pytest.raises(SettingsError, match="value_cap must be at least 0"):
        connect(settings=Settings(), value_cap=-1)
