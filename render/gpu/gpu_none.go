//go:build (!linux && !windows) || (linux && (!cgo || nonvml))

package gpu

import "runtime"

func newProber() Prober {
	return none{why: "this build for " + runtime.GOOS + " does not ask for one"}
}
