// Package node reaches up.
package node

import (
	_ "github.com/urfave/cli/v2"
	_ "idlewild/cmd/idlewild"
	_ "idlewild/internal/farmtest"
)

// Kind stands in the wrong file.
const Kind = `blender`
