// Package dispatch looks sideways and branches on a kind.
package dispatch

import _ "idlewild/node/worker"

// F branches on a kind.
func F(kind string) bool {
	return kind == "ai"
}
