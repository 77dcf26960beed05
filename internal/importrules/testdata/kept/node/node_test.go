package node

import _ "idlewild/internal/farmtest"
