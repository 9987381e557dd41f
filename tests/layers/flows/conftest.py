"""Makes `stories` importable: a `flows` package would be mistaken for the one at the root."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
