package store

import _ "idlewild/diffupload/store/storetest"
