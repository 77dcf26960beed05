// Package diffupload takes boxo out of its room.
package diffupload

import _ "github.com/ipfs/boxo/blockstore"
