// This is no package comment in Go's form.
package verify

import (
	_ "github.com/NVIDIA/go-nvml/pkg/nvml"
	_ "idlewild/render/blender"
)
