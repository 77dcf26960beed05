//go:build !amd64 && !arm64

package chunker

func machineKernels() []kernel { return nil }
