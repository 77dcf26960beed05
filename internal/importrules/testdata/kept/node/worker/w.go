// Package worker uses value types of libp2p.
package worker

import (
	_ "github.com/libp2p/go-libp2p/core/crypto"
	_ "github.com/libp2p/go-libp2p/core/peer"
	_ "idlewild/job"
	_ "idlewild/render"
)

// Sentence mentions blender, but is not its name.
const Sentence = "needs blender 4.2"
