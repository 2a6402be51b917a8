package routes_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/routes"
)

// The engine with a route of one's own, which is behind the same middleware.
func ExampleNew() {
	engine := routes.New(routes.Deps{Build: "1.0", Token: "hunter2"})
	engine.POST("/accounts", routes.RequireToken("hunter2"), func(c *gin.Context) {
		routes.Fail(c, http.StatusConflict, "taken", "there is such an account")
	})
	for _, token := range []string{"", "hunter2"} {
		r := httptest.NewRequest(http.MethodPost, "/accounts", http.NoBody)
		r.Header.Set("X-Request-Id", "abc")
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		engine.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 401 {"error":{"code":"token_missing","message":"this needs a bearer token in the Authorization header","request_id":"abc"}}
	// 409 {"error":{"code":"taken","message":"there is such an account","request_id":"abc"}}
}

// A handler's own lines bear the request's id. Below it, what knows nothing of Gin
// finds the same logger in the context.
func ExampleLogger() {
	engine := routes.New(routes.Deps{Log: zerolog.New(os.Stdout).Level(zerolog.WarnLevel)})
	engine.GET("/stock", func(c *gin.Context) {
		log := routes.Logger(c)
		log.Warn().Int("left", 2).Msg("almost sold out")
		zerolog.Ctx(c.Request.Context()).Warn().Msg("the same logger")
	})
	r := httptest.NewRequest(http.MethodGet, "/stock?token=hunter2", http.NoBody)
	r.Header.Set("X-Request-Id", "abc")
	engine.ServeHTTP(httptest.NewRecorder(), r)
	// Output:
	// {"level":"warn","request_id":"abc","left":2,"message":"almost sold out"}
	// {"level":"warn","request_id":"abc","message":"the same logger"}
}
