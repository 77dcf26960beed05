package chunker

import "golang.org/x/sys/cpu"

func machineKernels() []kernel {
	if !cpu.X86.HasAVX2 {
		return nil
	}
	return []kernel{{"avx2", scanGroups(groupsAVX2)}}
}

// groupsAVX2 is scanGroups' groups. groupsModel, in the tests, is the same in
// Go, with one register of 8 lanes for each phase.
//
//go:noescape
func groupsAVX2(p *byte, n int, f *filter) int
