// Package blender is the kind of job whose tasks Blender renders.
//
// A frame is two tasks. The render task, which runs anywhere, leaves one
// scene-linear multilayer EXR with every pass of every view layer: the claim,
// which can be verified by rendering crops of it again. The finish task, which
// runs at the requester, shows that EXR to the scene's own compositor in place
// of the render and writes the artist's file format: colour management, dither
// and stamp happen once, on the artist's own machine, and no result of another
// machine is delivered without passing through it. Both together give the
// pixels that `blender -b FILE -f N` gives.
//
// Its nouns: SpecParams are what a person asked for, Facts what a look at the
// file found, Params what one task asks of Blender. The runner is the folder
// of Python files that a warm Blender executes; it travels inside the binary
// and never over the network.
package blender
