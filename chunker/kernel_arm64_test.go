package chunker

const lanes = 4

var assembly func(p *byte, n int, f *filter) int = groupsNEON
