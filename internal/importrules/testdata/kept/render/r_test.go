package render_test

import _ "idlewild/render/echo"
