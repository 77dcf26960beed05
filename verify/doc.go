// Package verify finds out whether what came back is what was asked for. It is
// pure: claims and evidence in, verdicts out; it renders nothing and knows no renderer.
//
// A worker commits to a result before it learns a secret. From the secret and
// the root of its commitment Draw picks rectangles of the frame, which somebody
// else renders again with the same seed: crops. Compare holds the claim against
// the crops. Renders on two kinds of hardware are never equal bit for bit, and
// the difference between honest hair on two CPUs is larger than the difference
// between a full render and one with a tenth of its samples missing, so neither
// a hash nor a tolerance decides, but statistics that measure the difference in
// units of the picture's own noise and look for the direction in which missing
// samples would move it. Thresholds says what is measured, and where the
// numbers come from.
//
// A verdict has three words. Rejected means shown to be something else;
// accepted means that nothing was found where something would show; everything
// between, and every trouble on the checker's side, is unsure.
package verify
