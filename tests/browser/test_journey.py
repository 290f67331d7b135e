"""The short way through the console that every run of the tests takes: from the sign-in to the evidence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.console import Console, phones, spreadsheet

# Starting a whole system takes most of it.
pytestmark = pytest.mark.timeout(300)


def test_a_list_is_uploaded_previewed_sent_watched_and_found_in_the_audit_log(console: Console, tmp_path: Path) -> None:
    page = console.sign_in("admin").page
    expect(page.get_by_role("heading", name="Genel bakış")).to_be_visible()
    page.get_by_role("link", name="Davetler", exact=True).first.click()
    page.get_by_role("link", name="Excel listesi yükle").first.click()
    page.get_by_role("link", name="Bereket Tohum sponsorunu seç").click()

    rows = [[phone, f"Çiftçi {number}", "S"] for number, phone in enumerate(phones(300))]
    page.set_input_files(
        "#file", spreadsheet(tmp_path / "liste.xlsx", [["Telefon", "Çiftçi Adı", "Paket"], *rows, ["12", "Bozuk", "S"]])
    )
    console.press("Önizle")
    console.sees("300 satır gönderilebilir")
    console.sees("1 satır hatalı")
    expect(console.row("302")).to_contain_text("Telefon")

    console.press("300 daveti gönder")
    page.wait_for_url(re.compile(r"/invitations/jobs/\d+$"))
    progress = page.get_by_role("progressbar")
    expect(progress).to_have_attribute("value", re.compile(r"^\d+$"))
    expect(page.get_by_text("Hatalarla tamamlandı")).to_be_visible(timeout=60_000)  # by events, without a reload
    expect(progress).to_have_attribute("value", "100")
    expect(page.locator("#job-invitations tbody tr").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Başarısız satırları indir").click()
    assert download.value.suggested_filename.endswith(".xlsx")

    job = page.url.rsplit("/", 1)[1]
    page.get_by_role("link", name="Denetim kaydı").first.click()
    page.get_by_label("Hedef").fill(f"bulk_job:{job}")
    console.follow("Filtrele")
    record = page.get_by_role("link", name="invitations.bulk.sent_on_behalf")
    console.reload_until(record)
    record.click()
    expect(page.locator("dl").first).to_contain_text("Yönetici 166")
    expect(page.locator("pre").first).to_contain_text('"success_count": 300')
