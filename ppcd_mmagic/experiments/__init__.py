"""Runs, tables and pictures of the paper's experiments."""
from .runs import (STUDENTS, Metrics, Run, changed, make_runs, read_config,
                   read_lines, run_all, set_alpha, set_budget, shorten,
                   train_all)
from .tables import (bar_chart, draw_leakage, draw_picture_table,
                     draw_pictures, images_of, labels_for, line_chart,
                     mean_and_spread, of_one_seed, save_table, seeds_in_words,
                     table_of)

__all__ = [
    'Metrics', 'Run', 'STUDENTS', 'bar_chart', 'changed', 'draw_leakage',
    'draw_picture_table', 'draw_pictures', 'images_of', 'labels_for',
    'line_chart', 'make_runs', 'mean_and_spread', 'of_one_seed', 'read_config',
    'read_lines', 'run_all', 'save_table', 'seeds_in_words', 'set_alpha',
    'set_budget', 'shorten', 'table_of', 'train_all'
]
