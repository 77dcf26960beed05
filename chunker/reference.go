package chunker

// Reference returns the lengths of the chunks of d: the definition of the
// format, word for word and slow.
//
// The hash at a length L is taken over the 64 bytes d[L-64:L] of the rest d:
// the sum over j from 0 to 63 of table[d[L-1-j]] * 2^j, modulo 2^64. A chunk is
// the shortest L with Min < L < Max whose hash has zeros in its top lg+2 bits
// where L <= Avg, or in its top lg-2 bits (at least one) where L > Avg, with lg
// the whole part of log2(Avg). If there is none it is Max bytes, or what is
// left.
func Reference(d []byte, p Params) ([]int, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	p = p.filled()
	table := gearTable(p.Key)
	lg := 0
	for 1<<(lg+1) <= p.Avg {
		lg++
	}
	var cuts []int
	for len(d) > 0 {
		cut := min(len(d), p.Max)
		for l := p.Min + 1; l < cut; l++ {
			var hash uint64
			for j := range window {
				hash += table[d[l-1-j]] << j
			}
			zeros := lg + 2
			if l > p.Avg {
				zeros = max(lg-2, 1)
			}
			if hash>>(64-zeros) == 0 {
				cut = l
			}
		}
		cuts = append(cuts, cut)
		d = d[cut:]
	}
	return cuts, nil
}
