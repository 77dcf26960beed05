package chunker

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// KernelVariable names the environment variable that forces a kernel: avx2,
// neon, portable or reference. All give the same cuts; forcing one is for
// tests and measurements. It is read once. A name that is unknown, or of a
// kernel that this machine cannot run, is an error of whatever cuts first and
// of all that follow: who forces a kernel wants to know.
const KernelVariable = "IDLEWILD_KERNEL"

// kernel is one way to find what the filter nominates.
type kernel struct {
	name string
	// scan returns the first position from i to n, exclusive, that f nominates
	// in d, or n. i is at least filterWindow-1, n at most len(d).
	scan func(f *filter, d []byte, i, n int) int
}

// kernels are those that this machine can run, the fastest first.
func kernels() []kernel {
	return append(machineKernels(), kernel{"portable", scanPortable}, kernel{"reference", scanReference})
}

// chosenKernel is the one in use.
var chosenKernel = sync.OnceValues(func() (kernel, error) { return pickKernel(os.Getenv(KernelVariable)) })

func pickKernel(name string) (kernel, error) {
	all := kernels()
	if name == "" {
		return all[0], nil
	}
	var names []string
	for _, k := range all {
		if k.name == name {
			return k, nil
		}
		names = append(names, k.name)
	}
	return kernel{}, fmt.Errorf("%s=%s: no such kernel on this machine; unset it, or set one of %s",
		KernelVariable, name, strings.Join(names, ", "))
}

// KernelName returns the name of the kernel in use, or what is wrong with
// KernelVariable.
func KernelName() (string, error) {
	k, err := chosenKernel()
	return k.name, err
}
