"""`python -m nanochat.reporting RUN_FOLDER`: write a run's report, beside the runner and behind everything else."""

import os
import sys
from pathlib import Path

from nanochat.reporting.file_reports import FileReports
from nanochat.running.run_folder import RunFolder

if __name__ == "__main__":
    os.nice(19)
    FileReports().write(RunFolder(Path(sys.argv[1])))
