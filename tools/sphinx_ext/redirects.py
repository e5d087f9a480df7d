"""Sends readers of an old address to the page that has its content now."""

from pathlib import Path

MOVED = {
    "00_the_jump_in_one_program": "01_the_jump_in_one_program",
    "01_conversion_data": "02_conversion_data_and_the_model",
    "02_model": "02_conversion_data_and_the_model",
    "05_multi_epoch_overfitting": "05_the_second_epoch",
    "06_frequency_adaptive_rate": "07_frequency_adaptive_rate",
    "07_fal_versus_meda": "08_fal_versus_meda",
    "08_continual_training": "11_new_data_every_day",
    "09_real_logs": "12_real_logs_and_yours",
    "10_rows_that_see_their_own_label": "09_rows_that_leave_their_own_label_out",
    "11_the_board": "10_the_board",
    "12_when_it_occurs": "12_real_logs_and_yours",
    "13_an_ab_test_with_known_truth": "a1_an_ab_test_with_known_truth",
    "14_past_one_machine": "a2_past_one_machine",
}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Moved</title>
<meta http-equiv="refresh" content="0; url={to}"><link rel="canonical" href="{to}"></head>
<body><p>This page has moved to <a href="{to}">{to}</a>.</p></body></html>
"""


def write(app, exception) -> None:
    """Writes a page at each old address whose new one was built."""
    notebooks = Path(app.outdir) / "notebooks"
    for old, new in MOVED.items():
        if (notebooks / f"{new}.html").exists():
            (notebooks / f"{old}.html").write_text(PAGE.format(to=f"{new}.html"), encoding="utf-8")


def setup(app):
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
