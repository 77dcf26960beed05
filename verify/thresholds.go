package verify

// Thresholds decide between the numbers that Compare measures. Differences are
// measured relative to the pixel's brightness and in units of its noise σ, the
// spread that pixels of that neighbourhood have at that many samples.
//
//	z50    median of |claim - crop| / σ over the informative pixels (those
//	       with noise), the worst crop counting. Sees another seed or frame, an
//	       upscaled or filtered picture; not a tenth of the samples missing.
//	beta   slope of (claim - crop) on (first nine tenths of the samples - last
//	       tenth): the direction in which leaving out samples moves a picture,
//	       and no hardware does. 0.33 where the last tenth is missing. beta_t is
//	       its significance.
//	out    share of all pixels that differ by more than a hundredth, worst
//	       channel over brightest channel.
//	shifted  share of squares of 8x8 pixels whose mean moved by more than σ. Noise
//	       averages out, whatever its cause; an object that is elsewhere does not.
//	sz     with adaptive sampling: z50 in classes of the crop's own sample count
//	       (least, between, most), the worst counting. Stopping early moves one
//	       class only.
//	zeq    z50 among pixels for which claim and crop report the same count;
//	count_ratio is the claim's mean count over the crop's. Counts are
//	       self-reported: they can excuse a pixel that stopped at another step
//	       on other hardware, some pixels at most, and never prove anything by
//	       themselves. Who lies about them in both directions can hide what a
//	       slightly looser threshold saves.
//
// The defaults were fitted on 160x90 renders of eight Cycles scenes in Blender
// 3.4 on CPUs, honest variation being other instruction sets, thread counts and
// ray tracing structures. GPUs, Blender 4 and later, and mixtures of the two
// were not tried. On hair honest hardware alone reaches z50 .4, so above Z50
// and up to Z50Sure a claim whose beta is innocent is unsure, not rejected.
// What saves less than about 4 % of the work cannot be told from honest work.
type Thresholds struct {
	Z50     float64 // at most this is accepted
	Z50Sure float64 // above this is rejected, whatever beta says
	Beta    float64 // above this, with BetaT, is rejected
	BetaT   float64
	// BetaHint, with BetaHintT, is enough where Z50 is exceeded too: fewer
	// samples show a weaker slope, but then a larger z50.
	BetaHint  float64
	BetaHintT float64
	// Calm is a z50 that only the same scene and seed reach. Up to it a share
	// above Out is a change to the picture, not hardware.
	Calm    float64
	Out     float64 // above this share is not accepted
	OutSure float64 // above this share is rejected

	Shifted float64 // above this share of squares (at least two) is rejected

	SZ           float64 // adaptive: as Z50
	Zeq          float64 // adaptive: what equal counts must keep to
	CountRatio   float64 // adaptive: what the claim's counts must reach
	OtherCount   float64 // adaptive: the share of pixels that a different count can excuse
	BetaAdaptive float64 // adaptive: slope towards a render with a looser threshold

	Flat        float64 // relative difference allowed where there is no noise
	FlatShare   float64 // share of noise-free pixels that must keep to it
	Informative int     // fewer informative pixels than this say nothing
}

// DefaultThresholds are those of the measurements.
func DefaultThresholds() Thresholds {
	return Thresholds{
		Z50: 0.12, Z50Sure: 0.45, Beta: 0.15, BetaT: 2, BetaHint: 0.05, BetaHintT: 3, Calm: 0.03, Out: 0.02, OutSure: 0.25, Shifted: 0.05,
		SZ: 0.12, Zeq: 0.12, CountRatio: 0.96, OtherCount: 0.25, BetaAdaptive: 0.35,
		Flat: 1e-2, FlatShare: 0.98, Informative: 200,
	}
}
