// Package node may know everything but the commands, and name kinds here.
package node

import (
	_ "idlewild/node/dispatch"
	_ "idlewild/p2p"
	_ "idlewild/render/blender"
)

// Kinds are the sorts of work.
var Kinds = []string{"blender", "ai"}
