package delta

func loadPrior(s *stream) {
	for k := range s.lengths {
		for c := range s.lengths[k] {
			for i := range s.lengths[k][c] {
				s.lengths[k][c][i] = evens
			}
		}
		for c := range s.heads[k] {
			for i := range s.heads[k][c] {
				s.heads[k][c][i] = evens
			}
		}
	}
	for i := range s.flags {
		s.flags[i] = evens
	}
}

func loadWordPrior(m *words) {
	for k := range m.guess {
		for i := range m.guess[k] {
			m.guess[k][i] = evens
			if i < 1024 {
				if i&1 == 1 {
					m.guess[k][i] = 0xc0000000
				} else {
					m.guess[k][i] = 0x40000000
				}
			}
		}
	}
	for k := range m.weightA {
		for i := range m.weightA[k] {
			m.weightA[k][i] = 16000
		}
	}
	for k := range m.weightB {
		for i := range m.weightB[k] {
			m.weightB[k][i] = 16000
		}
	}
	for k := range m.eqTab {
		for i := range m.eqTab[k] {
			m.eqTab[k][i] = evens
		}
	}
	for k := range m.eqWeightA {
		for i := range m.eqWeightA[k] {
			m.eqWeightA[k][i] = 20000
		}
	}
	for k := range m.eqWeightB {
		for i := range m.eqWeightB[k] {
			m.eqWeightB[k][i] = 20000
		}
	}
}
