#include "transport/stream.h"

msh_code msh_stream_write(msh_stream *s, msh_slice data, msh_stream_done done, void *ctx, msh_err *err)
{
    if (s->queued > 0 && data.n > s->limit - (s->queued < s->limit ? s->queued : s->limit))
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "%zu bytes wait for the peer already", s->queued);
    return s->ops->write(s, data, -1, done, ctx, err);
}

msh_code msh_stream_send_fd(msh_stream *s, int fd, msh_slice data, msh_stream_done done, void *ctx,
                            msh_err *err)
{
    if (fd < 0 || data.n == 0)
        return msh_fail(err, MSH_INVALID_ARGUMENT, "a descriptor travels with at least one byte");
    if (s->queued >= s->limit)
        return msh_fail(err, MSH_RESOURCE_EXHAUSTED, "%zu bytes wait for the peer already", s->queued);
    return s->ops->write(s, data, fd, done, ctx, err);
}

msh_code msh_stream_read(msh_stream *s, const msh_reader *r, msh_err *err)
{
    return s->ops->read(s, r, err);
}

void msh_stream_stop(msh_stream *s)
{
    s->ops->stop(s);
}

msh_code msh_stream_shutdown(msh_stream *s, msh_stream_done done, void *ctx, msh_err *err)
{
    return s->ops->shutdown(s, done, ctx, err);
}

msh_code msh_stream_peer(msh_stream *s, msh_peer *out, msh_err *err)
{
    return s->ops->peer(s, out, err);
}

msh_code msh_stream_take_fds(msh_stream *s, msh_err *err)
{
    return s->ops->take_fds(s, err);
}

void msh_stream_close(msh_stream *s)
{
    if (s != NULL)
        s->ops->close(s);
}
