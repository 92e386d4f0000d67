"""
What the state machine of a Log's generations found, by name.
"""

from __future__ import annotations

from agent.core.generations import Generation
from agent.core.identity import NO_TAIL
from tests.core.test_logs_machine import Machine


def test_many_copies_between_reads_are_read_in_one_go() -> None:
    """
    Each cut file is found in its copy; the descriptor of the file that was cut stays with what is new there.
    """
    machine = Machine()
    machine.look(hold=True)
    for _ in range(6):
        machine.write(2)
        machine.look(hold=False)
        machine.copytruncate(line_between=False)
        machine.write(1)
        machine.look(hold=True)
    machine.time_passes(6.0)
    while machine.read_once():
        pass
    assert bytes(machine.delivered) == b"".join(machine.written)
    machine.teardown()


def test_a_cut_file_without_a_name_is_not_its_compressed_copy() -> None:
    """
    Copied, cut, renamed and compressed before anybody looked: the copy is read, not the empty open file.
    """
    machine = Machine()
    machine.write(1)
    machine.look(hold=True)
    machine.copytruncate(line_between=False)
    for _ in range(2):
        machine.rename()
        machine.reopen()
        machine.compress()
    machine.look(hold=False)
    assert machine.chain.generations[0].key != (1, 1)
    while machine.read_once():
        pass
    assert bytes(machine.delivered) == b"line 1\n"
    machine.teardown()


def test_nothing_is_decided_before_the_first_look() -> None:
    """
    After a restart whose scan could not look, time seals nothing and nothing is lost.
    """
    machine = Machine()
    machine.write(3)
    machine.look(hold=True)
    machine.read(1)
    machine.write(2)
    machine.look(hold=True)
    machine.agent_restarts(hold=True, blind=True)
    machine.time_passes(6.0)
    assert not machine.read_once()
    assert not machine.chain.over
    assert machine.chain.settled
    machine.look(hold=True)
    while machine.read_once():
        pass
    assert bytes(machine.delivered) == b"".join(machine.written)
    machine.teardown()


def test_a_file_without_a_whole_line_is_not_remembered_by_its_end() -> None:
    """
    It can be cut and written anew between two looks, and nothing of it was read.
    """
    generation = Generation(number=0)
    generation.note_tail(b"torn", 4)
    assert generation.tail == NO_TAIL
    generation.head = b"h" * 16
    generation.note_tail(b"whole\n", 6)
    assert generation.tail.offset == 6
