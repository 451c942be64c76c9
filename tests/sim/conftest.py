from __future__ import annotations

from builders import use_hypothesis_profile

use_hypothesis_profile()
