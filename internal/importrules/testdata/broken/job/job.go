// Package job imports something of ours.
package job

import _ "idlewild/media"
