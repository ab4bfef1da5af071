//! Numbers of what keeps a router from serving.

use crate::tenancy::codes;

codes! {
    Listen = 9001, "the router cannot listen",
        "The address is in use, or not one of this machine's. Stop whatever listens there, or choose another address \
         with --listen or --http.";
    Certificate = 9002, "a certificate that cannot be served",
        "A file of --tls-cert or --tls-key is missing, is not PEM, or the two do not belong together; the message names \
         it. Correct the file or the flag.";
    Resources = 9003, "the router is out of something",
        "The system gives no more threads or file descriptors. Raise its limits (ulimit -n), then start the router again.";
    RoutesFile = 9004, "a file of routes that cannot be used",
        "The file of --routes is missing, too long or not understood; the message names the place. Correct it: a router \
         that already serves keeps its last good routes and takes the corrected file at once.";
}
