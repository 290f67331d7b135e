"""What somebody copied out of a spreadsheet becomes rows of a form; charts of what was spent."""

from __future__ import annotations

from datetime import date

import pytest

from services.gateway.domain.console.charts import HEIGHT, spent_chart
from services.gateway.domain.console.pasting import MOST_ROWS, PastedRow, read_pasted

AHMET = PastedRow("0542", "Ahmet Yılmaz", "5", "M", "a@example.com", "Bölge 1")


@pytest.mark.parametrize(
    "text",
    [
        "0542\tAhmet Yılmaz\t5\tM\ta@example.com\tBölge 1",
        "0542;Ahmet Yılmaz;5;M;a@example.com;Bölge 1\r\n\r\n",
        "Notlar\tPAKET\tTelefon\tÇİFTÇİ ADI\tKöy\tE-Posta\tAdet\nBölge 1\tM\t0542\tAhmet Yılmaz\tX\ta@example.com\t5",
        '0542\t"Ahmet Yılmaz"\t5\tM\ta@example.com\tBölge 1',
    ],
)
def test_a_row_is_read_in_the_order_of_the_form_or_of_its_headings(text: str) -> None:
    assert read_pasted(text) == [AHMET]


def test_what_is_left_out_has_its_default_and_nothing_is_guessed() -> None:
    assert read_pasted("0542\tA\n\t\n0543\tB\t\tXL") == [
        PastedRow("0542", "A"),
        PastedRow("0543", "B", "1", "XL"),
    ]
    assert read_pasted("") == read_pasted(" \n\t\n") == []
    assert read_pasted("a\0b")[0].phone == "ab"
    assert len(read_pasted("\n".join(["0542"] * 5_000))) == MOST_ROWS
    assert PastedRow(codeCount="1").is_blank
    assert not PastedRow(notes="x").is_blank


def test_a_day_is_a_bar_of_its_tiers_and_the_figures_of_the_grid_are_round() -> None:
    today = date(2026, 11, 27)
    chart = spent_chart(
        [(today, "S", 30), (today, "M", 61), (date(2026, 11, 1), "XL", 1), (date(2020, 1, 1), "S", 9)], today, 30
    )
    assert (len(chart.days), chart.total) == (30, 92), "what is older is not drawn"
    last = chart.days[-1]
    assert [(piece.tier, piece.count) for piece in last.pieces] == [("S", 30), ("M", 61)]
    assert last.pieces[0].y == pytest.approx(last.pieces[1].y + last.pieces[1].height, abs=0.2)
    assert [line.value for line in chart.lines] == [0, 50, 100]
    assert all(0 <= piece.y <= HEIGHT for day in chart.days for piece in day.pieces)
    assert 5 <= sum(day.is_named for day in chart.days) <= 8
    assert last.is_named


@pytest.mark.parametrize("most", [0, 1, 3, 4, 5, 9, 10, 11, 99, 100, 101, 12_345])
def test_the_grid_reaches_above_the_highest_bar(most: int) -> None:
    today = date(2026, 11, 27)
    _, middle, top = (line.value for line in spent_chart([(today, "S", most)], today, 7).lines)
    assert top >= max(most, 2)
    assert top == 2 * middle
    assert top <= max(4, 2 * most + 2)
