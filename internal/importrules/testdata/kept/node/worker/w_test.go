package worker_test

import (
	_ "idlewild/internal/farmtest"
	_ "idlewild/node/worker"
)

const kind = "blender"
