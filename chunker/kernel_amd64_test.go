package chunker

import "golang.org/x/sys/cpu"

const lanes = 8

var assembly = func() func(p *byte, n int, f *filter) int {
	if !cpu.X86.HasAVX2 {
		return nil
	}
	return groupsAVX2
}()
