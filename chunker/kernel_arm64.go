package chunker

// Every arm64 processor that Go runs on has NEON.
func machineKernels() []kernel { return []kernel{{"neon", scanGroups(groupsNEON)}} }

// groupsNEON is scanGroups' groups. groupsModel, in the tests, is the same in
// Go, with two registers of 4 lanes for each phase.
//
//go:noescape
func groupsNEON(p *byte, n int, f *filter) int
