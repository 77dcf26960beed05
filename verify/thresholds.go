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
//	z50_square  the largest z50 of a square of 8x8 pixels. Sees that part of the
//	       picture is cheap or altered.
//	shifted  squares whose mean moved by more than σ. Noise averages out,
//	       whatever its cause; an object that is elsewhere does not.
//	out    share of all pixels that differ by more than a hundredth, worst
//	       channel over brightest channel. It decides little where there is
//	       noise: honest hair on another ray tracing structure reaches .65.
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
//	touched    share of informative pixels that differ by more than 0.3 σ, and
//	touched_crop that of the worst crop. Next to nothing between honest machines
//	but on hair, so that only Calibrate gives them limits.
//	pass_odd   the largest share, over the other passes, of pixels that lie
//	       outside of what the crops' renders show there.
//	look_…_odd_blocks  see Look.
//	denoised_off    share of all the frame's pixels at which the denoised picture
//	differs from what the same denoiser makes again of the claim's noisy picture
//	and guides, and denoised_worst the largest difference. OpenImageDenoise 2.3
//	of one build gives the same bits for any number of threads, 1.3e-5 at most
//	between AVX-512, AVX2 and SSE4, and .008 where the file has halves of what the
//	worker denoised in floats. Another version of it is another picture.
//
// The defaults of z50, beta, sz, zeq and count_ratio were fitted elsewhere on
// 160x90 renders of eight Cycles scenes; those of squares on the four scenes of
// this package's tests, with and without adaptive sampling, honest variation
// being older instructions, one thread, another ray tracing structure and 16-bit
// files: z50 to .03 and z50_square to .11 (hair; .21 with adaptive sampling), no
// shifted square, |beta| to .013, sz to .34 and zeq to .10 (both hair; 1e-3
// otherwise). Two real scenes kept aside for it gave no false alarm in 200 draws
// each either. All of it is Blender 3.4 on one CPU: GPUs, Blender 4 and later,
// and mixtures of the two were not tried. On longer hair others saw honest z50
// up to .4, so between Z50 and Z50Sure a claim whose beta is innocent is unsure,
// not rejected.
//
// Not told from honest work: what saves less than about 4 % of it; a stale frame
// where nothing moved in the crops; anything at all where the crops fell on
// empty ground (informative says how much there was to see: a real frame with a
// small object on a plain ground passed at half its samples in 21 % of draws).
type Thresholds struct {
	Z50     float64 // at most this is accepted
	Z50Sure float64 // above this is rejected, whatever beta says
	Beta    float64 // above this, with BetaT, is rejected
	BetaT   float64
	// BetaHint, with BetaHintT, is enough where Z50 or Squares are exceeded
	// too: fewer samples show a weaker slope, but then a larger z50.
	BetaHint  float64
	BetaHintT float64

	Square      float64 // z50 of a square at most this is accepted
	SquareSure  float64 // above this is rejected
	Squares     float64 // the share of squares (at least two) that must be so for it
	SquareAlone float64 // above this one square is enough (not adaptive)

	SZ           float64 // adaptive: as Z50
	Zeq          float64 // adaptive: what equal counts must keep to
	CountRatio   float64 // adaptive: what the claim's counts must reach
	OtherCount   float64 // adaptive: the share of pixels that a different count can excuse
	BetaAdaptive float64 // adaptive: slope towards a render with a looser threshold

	Out       float64 // share of pixels that may be off where nothing should be: without noise, denoised, or no numbers
	OutNoise  float64 // above this share, with a third of Z50, is not accepted (not adaptive)
	Flat      float64 // relative difference up to which a pixel without noise is not off
	FlatShare float64 // above this share of pixels without noise is not accepted: strands before a flat ground are off by more than Out
	FlatSure  float64 // above this share of pixels without noise is rejected

	// Calibrated says that the limits are those of a job's canaries. Those
	// that follow are asked for only then: what they measure is next to
	// nothing on most scenes, and most of the hair on a hairy one.
	Calibrated  bool
	Touched     float64 // share of noisy pixels that may be other pixels than the crops'
	TouchedCrop float64 // and of those of one crop
	SquareAny   float64 // z50 that no square may exceed
	SZAny       float64 // adaptive: sz that may not be exceeded, whatever counts excuse

	Pass     float64 // share of pixels of another pass that may be outside of what the crops' renders show
	PassSure float64 // above this is rejected

	Denoised     float64 // relative difference up to which a denoised pixel is the same
	DenoisedHalf float64 // and where the file holds 16-bit floats

	LookShift   float64 // relative difference of a block's mean that a look calls odd
	LookSpread  float64 // how many times the frame's own spread it must also be
	LookCluster int     // so many odd blocks must touch

	Informative int // fewer pixels than this are no sample for most rules
	Few         int // fewer informative pixels than this say nothing at all
}

// DefaultThresholds are those of the measurements.
func DefaultThresholds() Thresholds {
	return Thresholds{
		Z50: 0.12, Z50Sure: 0.45, Beta: 0.15, BetaT: 2, BetaHint: 0.03, BetaHintT: 4,
		Square: 0.3, SquareSure: 0.5, Squares: 0.05, SquareAlone: 2,
		SZ: 0.12, Zeq: 0.12, CountRatio: 0.96, OtherCount: 0.25, BetaAdaptive: 0.35,
		Out: 0.02, OutNoise: 0.3, Flat: 1e-2, FlatShare: 0.1, FlatSure: 0.25,
		Pass: 0.2, PassSure: 0.5, Denoised: 1e-3, DenoisedHalf: 0.02, LookShift: 0.1, LookSpread: 6, LookCluster: 2,
		Informative: 200, Few: 60,
	}
}
